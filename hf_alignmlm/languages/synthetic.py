"""Synthetic languages: English's twins, each an order of words and a spelling of words.

ALIGN-MLM (arXiv 2211.08547, section 3) derives a language by changing one property of English at a
time. Order is a list of indices, so tags, entities, trees and words all travel through one call.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Self

from hf_alignmlm.files import write_json
from hf_alignmlm.languages.orders import DESCRIPTIONS, ORDERS
from hf_alignmlm.languages.spelling import PRE_TOKENIZER, spelling
from hf_alignmlm.languages.word_order import Tree

LANGUAGE_FILE = "language.json"
TRANSLITERATION = re.compile(r"trans([1-9][0-9]?)?")


@dataclass(frozen=True)
class SyntheticLanguage:
    """A twin of the original language: an order of its words and a spelling of its words.

    The parts of `name` (`trans_inv`) apply from left to right. `seed` is that of permutations and
    of the choice of shared word types; `alphabet` has the characters to spell beside the standard.
    """

    # What the language that it derives from and it are called, in every pair of the kind.
    names: ClassVar[tuple[str, ...]] = ("original", "derived")

    name: str
    seed: int = 0
    alphabet: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.alphabet, str):
            raise ValueError("a language's name and alphabet must be texts")
        if type(self.seed) is not int or abs(self.seed) >= 2**63:
            raise ValueError("a language's seed must be a whole number of at most 64 bits")
        spellings = [part for part in self.name.split("_") if part not in ORDERS]
        for part in spellings:
            if not TRANSLITERATION.fullmatch(part):
                known = ["trans", "transNN (NN % of the word types mapped, 1-99)", *ORDERS]
                raise ValueError(
                    f"unknown language {self.name!r} (at {part!r}): the known parts, "
                    f"joined by '_', are {', '.join(known)}"
                )
        if len(spellings) > 1:
            raise ValueError(f"language {self.name!r} names more than one transliteration")
        # Spelling commutes with every order: one name for one language, spelling first.
        object.__setattr__(self, "name", "_".join([*spellings, *self.orders]))

    def __reduce__(self) -> tuple[Any, ...]:
        # Without cached properties, so that `datasets` takes a used language for a fresh one.
        return type(self), (self.name, self.seed, self.alphabet)

    @classmethod
    def from_name(cls, name: str, *, seed: int = 0, alphabet: str = "") -> Self:
        """The language of that name, as `trans_inv`; `ValueError` lists the known parts."""
        return cls(name, seed, alphabet)

    @cached_property
    def orders(self) -> tuple[str, ...]:
        """The parts that change the order of words, in the order they apply."""
        return tuple(part for part in self.name.split("_") if part in ORDERS)

    @cached_property
    def mapped_share(self) -> float:
        """The share of word types that have a spelling of their own, 0 to 1."""
        match = TRANSLITERATION.fullmatch(self.name.split("_")[0])
        return int(match[1] or 100) / 100 if match else 0.0

    def describe(self) -> str:
        """What the language is, in a sentence."""
        spelled = "all words" if self.mapped_share == 1 else f"{self.mapped_share:.0%} of words"
        parts = [f"{spelled} in a script of their own"] if self.mapped_share else []
        parts += [DESCRIPTIONS[part] for part in self.orders]
        return f"`{self.name}` is English with {'; '.join(parts)} (seed {self.seed})."

    def order(
        self, words: Sequence[str], *, tree: Tree | None = None, index: int = 0, where: str = ""
    ) -> list[int]:
        """The indices of `words` in the derived language's order.

        `index` is the sentence's number in its corpus and seeds `perm`: a sentence's order depends
        on nothing else. `tree` (`heads`, `deprels`, `upos`) is for orders that follow syntax; the
        `ValueError` for none, or a wrong one, names `where` the sentence stands ("a.txt, row 3").
        """
        if isinstance(words, str):
            raise ValueError(f"a list of words is wanted, not a text: {words[:40]!r}")
        result = list(range(len(words)))
        try:
            for place, part in enumerate(self.orders):
                result = ORDERS[part](result, words, tree, f"{self.seed}/{place}", index)
            if not len(words) == len(result) == len(set(result)):
                raise ValueError(f"{self.name} gives no order of {len(words)} words: {result[:9]}")
        except ValueError as error:
            raise ValueError(f"{where or f'sentence {index}'}: {error}") from error
        return result

    def maps(self, unit: str) -> bool:
        """Whether this word type has a derived spelling of its own, or is shared."""
        digest = blake2b(f"{self.seed}/{unit}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.mapped_share * 2**64

    def spell(self, word: str) -> str:
        """The word in the derived language's spelling; runs of letters and marks are word types."""
        if self.mapped_share == 0.0:
            return word
        table = spelling(self.alphabet).table
        if self.mapped_share == 1.0:
            return word.translate(table)
        result, end = "", 0
        for unit, (start, stop) in PRE_TOKENIZER.pre_tokenize_str(word):
            spelled = unit.translate(table) if self.maps(unit) else unit
            result, end = result + word[end:start] + spelled, stop
        return result + word[end:]

    def unspell(self, word: str) -> str:
        """The inverse of `spell`, for any word not in the derived script to begin with."""
        return word.translate(spelling(self.alphabet).inverse)

    def derive(
        self, words: Sequence[str], *, tree: Tree | None = None, index: int = 0
    ) -> list[str]:
        """The sentence in the derived language: its words reordered and spelled."""
        return [self.spell(words[i]) for i in self.order(words, tree=tree, index=index)]

    def uses_derived_script(self, text: str) -> bool:
        """Whether `text` already has a character that this language spells with."""
        if text.isascii() or not self.mapped_share:
            return False
        return not spelling(self.alphabet).characters.isdisjoint(text)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the language beside a checkpoint, as `language.json`."""
        write_json(Path(directory) / LANGUAGE_FILE, asdict(self))

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> Self:
        """Read the language that lies beside a checkpoint."""
        path = Path(directory) / LANGUAGE_FILE
        try:
            language = cls(**json.loads(path.read_text(encoding="utf-8")))
            spelling(language.alphabet)
            return language
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} does not describe a language: {error}") from None
