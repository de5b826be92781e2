"""One value of one row, checked as it is read, so that training and scoring can trust it."""

from typing import Any


def as_text(value: Any, where: str) -> str | None:
    """A text, or None for null; ValueError, which names `where`, for anything else."""
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{where}: {_shown(value)} stands where a text belongs")


def as_words(value: Any, where: str) -> list[str] | None:
    """A list of words, or None for null; ValueError, which names `where`, for anything else."""
    if value is None:
        return None
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return list(value)
    raise ValueError(f"{where}: {_shown(value)} stands where a list of words belongs")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
