"""Rows of text or of words: columns, values that are checked as they are read, sentences."""

import reprlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import sentencex
from datasets import Features, List, Value

from hf_alignmlm.data.conllu import tree_columns

TEXT_COLUMNS = ("text", "sentence", "original")
WORD_COLUMNS = ("words", "tokens")
TREE_COLUMNS = ("upos", "heads", "deprels")
_WORDS, _NUMBERS = List(Value("string")), List(Value("int32"))
# Sentences with trees have these types from every source, so that their tables can be joined.
TREES = Features({"words": _WORDS, "upos": _WORDS, "heads": _NUMBERS, "deprels": _WORDS})
# Sentence s of line l has index l * 4096 + s. The index seeds the sentence's permutation, which so
# does not depend on how other lines split.
SENTENCES_PER_LINE = 4096


def as_text(value: Any, where: str) -> str | None:
    """A text, or None for null; ValueError, which names `where`, for anything else."""
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{where}: {reprlib.repr(value)} stands where a text belongs")


def as_words(value: Any, where: str) -> list[str] | None:
    """A list of words, or None for null; ValueError, which names `where`, for anything else."""
    if value is None:
        return None
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return list(value)
    raise ValueError(f"{where}: {reprlib.repr(value)} stands where a list of words belongs")


def row_text(row: dict[str, Any]) -> str:
    """A row as plain text, whether it holds text or words."""
    return row.get("text") or " ".join(row.get("words") or [])


def row_tree(row: dict[str, Any], prefix: str = "") -> Any:
    """The tree in a row's columns, their names behind `prefix`; None if one is missing or null."""
    tree = {column: row[name] for column, name in tree_columns(row, prefix).items()}
    heads = tree.get("heads")
    if isinstance(heads, list) and any(isinstance(head, str) for head in heads):
        # As the Hub's treebanks have them.
        tree["heads"] = [int(h) if isinstance(h, str) and h.isdecimal() else h for h in heads]
    lists = [v if isinstance(v, list | tuple) else [v] for v in tree.values()]
    return SimpleNamespace(**tree) if tree and not any(None in v for v in lists) else None


def sentences(
    row: dict[str, Any],
    index: int,
    split: Callable[[str], list[str]] | None = None,
    language: str = "en",
) -> Iterator[tuple[Any, Any, int]]:
    """The sentences of row number `index`: words, tree (or None) and the sentence's own index.

    `split` gives a text's words; without it, the sentences of a text are texts. `language` (ISO
    639) is that of the rules for sentences' ends.
    """
    if row.get("words") is not None:
        yield row["words"], row_tree(row), index * SENTENCES_PER_LINE
    elif text := row_text(row).strip():
        for number, sentence in enumerate(sentencex.segment(language, text)):
            if words := split(sentence) if split else sentence:
                yield words, None, index * SENTENCES_PER_LINE + number
