"""Natural languages: each has a text of its own. The first is the source, of which labels are."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from hf_alignmlm.files import read_record, write_json
from hf_alignmlm.languages.synthetic import LANGUAGE_FILE, SyntheticLanguage

# Without a hyphen, so that `en-fr` is a pair of languages and nothing else.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class NaturalLanguages:
    """The languages of a checkpoint by name, as en and fr; ValueError for no such names."""

    # What synthetic languages spell of a text in a script of their own: here nothing.
    mapped_share: ClassVar[float] = 0.0

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.names:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a language: take letters, as en or pt_br")
            if name in SyntheticLanguage.names:
                raise ValueError(f"{name} is what synthetic languages are called: take another")
        if len(set(self.names)) < len(self.names) or not self.names:
            raise ValueError(f"a language has one name, and one alone: {', '.join(self.names)}")

    @property
    def name(self) -> str:
        """All names, as `en-fr`."""
        return "-".join(self.names)

    def describe(self) -> str:
        """What the languages are, in a sentence."""
        source, *others = (f"`{name}`" for name in self.names)
        beside = f"; beside it {', '.join(others)}" if others else ""
        return f"Natural languages, each with a text of its own: {source} is the source{beside}."

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the names beside a checkpoint, as `language.json`."""
        write_json(Path(directory) / LANGUAGE_FILE, {"languages": asdict(self)["names"]})


Languages: TypeAlias = SyntheticLanguage | NaturalLanguages


def load_languages(directory: str | Path) -> Languages:
    """The languages that lie beside a checkpoint, a synthetic pair or natural ones."""
    path = Path(directory) / LANGUAGE_FILE
    if "languages" not in (record := read_record(path)):
        return SyntheticLanguage.from_pretrained(directory)
    try:
        if not isinstance(record["languages"], list):
            raise TypeError("its languages are no list")
        return NaturalLanguages(tuple(record["languages"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe languages: {error}") from None
