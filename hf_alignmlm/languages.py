"""Synthetic languages: English's twins, each an order of words and a spelling of words.

ALIGN-MLM (arXiv 2211.08547, section 3) derives a language by changing one property of English at a
time. Order is a list of indices, so tags, entities, trees and words all travel through one call.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import BertPreTokenizer

from hf_alignmlm.files import write_text
from hf_alignmlm.syntax import KNOWN as WORD_ORDERS
from hf_alignmlm.syntax import Tree, WordOrderModel

LANGUAGE_FILE = "language.json"
FINAL_MARKS = frozenset(".!?")
# A second language that comes with a text of its own: nothing is derived.
NATURAL = "natural"
# Each superstrate's order, drawn for every sentence anew, or always the most likely one.
SYNTAX = tuple(f"syn-{name}{best}" for name in WORD_ORDERS for best in ("", "-best"))
KNOWN_PARTS = (
    f"trans, transNN (NN % of the word types mapped, 1-99), inv, perm, {', '.join(SYNTAX)}"
)

# What every language can spell, whatever the tokenizer: Latin, Greek, Cyrillic, common symbols.
_STANDARD_RANGES = (
    *((0x21, 0x7F), (0xA1, 0x530), (0x1E00, 0x2000)),
    *((0x2010, 0x2028), (0x2030, 0x203B), (0x20A0, 0x20D0), (0x2100, 0x2190)),
)
# Targets have no case and no decomposition, so that BERT's normaliser leaves them as they are:
# Canadian syllabics first, then Yi, Vai, Bamum, Tangut, cuneiform and hieroglyphs.
_LETTER_RANGES = (
    *((0x1401, 0x166D), (0x166F, 0x1680), (0x18B0, 0x18F6), (0xA000, 0xA48D), (0xA500, 0xA60D)),
    *((0x16800, 0x16A39), (0x17000, 0x187F8), (0x12000, 0x1239A), (0x13000, 0x13430)),
)
# Supplemental punctuation first, then that of scripts no longer written. Only what the tokenizers
# library itself takes for punctuation: its tables are older than Unicode's.
_PUNCTUATION_RANGES = (
    *((0x2E00, 0x2E2F), (0x2E30, 0x2E43), (0x10A50, 0x10A59), (0x10AF0, 0x10AF7)),
    *((0x10B39, 0x10B40), (0x11047, 0x1104E), (0x11140, 0x11144), (0x111C5, 0x111CA)),
    *((0x11238, 0x1123E), (0x115C1, 0x115D8), (0x12470, 0x12475), (0x16B37, 0x16B3C)),
)


def _characters(ranges: Sequence[tuple[int, int]]) -> list[str]:
    return [chr(code) for code in chain.from_iterable(range(*bounds) for bounds in ranges)]


# All that derived languages are written in: in no vocabulary to begin with.
DERIVED_CHARACTERS = frozenset(_characters((*_LETTER_RANGES, *_PUNCTUATION_RANGES)))
_SPLIT = BertPreTokenizer()


def is_punctuation(character: str) -> bool:
    """Whether BERT's pre-tokenizer makes a word of its own of this character."""
    return len(_SPLIT.pre_tokenize_str(f"a{character}a")) == 3


@dataclass(frozen=True)
class Spelling:
    """A one-to-one map of characters into scripts that no text in use here is written in.

    Letters become letters and punctuation becomes punctuation, so a spelled word is a word to
    BERT's normaliser and pre-tokenizer as well.
    """

    table: dict[int, str]
    inverse: dict[int, str]
    derived_script: re.Pattern[str]


@lru_cache(maxsize=8)
def spelling(alphabet: str = "") -> Spelling:
    """The spelling of the standard characters and, after them, of those in `alphabet`.

    Raises `ValueError` where `alphabet` holds a character of the derived scripts or more
    characters than they have room for.
    """
    letters, punctuation = _characters(_LETTER_RANGES), _characters(_PUNCTUATION_RANGES)
    targets = {True: iter(punctuation), False: iter(letters)}
    if clash := sorted(DERIVED_CHARACTERS.intersection(alphabet)):
        raise ValueError(
            f"the vocabulary already uses the derived script ({clash[0]!r}, "
            f"U+{ord(clash[0]):04X}): it cannot be doubled (again)"
        )
    table: dict[int, str] = {}
    for character in dict.fromkeys([*_characters(_STANDARD_RANGES), *sorted(alphabet)]):
        target = next(targets[is_punctuation(character)], None)
        if target is None:
            raise ValueError(
                f"the vocabulary has more characters than the derived script: at most "
                f"{len(letters)} letters and {len(punctuation)} punctuation marks"
            )
        table[ord(character)] = target
    return Spelling(
        table=table,
        inverse={ord(target): chr(code) for code, target in table.items()},
        derived_script=re.compile(f"[{''.join(map(re.escape, table.values()))}]"),
    )


@lru_cache(maxsize=8)
def _word_orders(superstrate: str) -> WordOrderModel:
    return WordOrderModel.from_name(superstrate)


def _inverted(order: list[int], words: Sequence[str]) -> list[int]:
    """The order reversed; a final mark stays last.

    Where none ends the sentence, marks that begin it ("... and then") stay first: reversed, one
    would end it, and inverting twice would not be the identity.
    """
    final = bool(order) and words[order[-1]] in FINAL_MARKS
    start, stop = 0, len(order) - final
    while not final and start < stop and words[order[start]] in FINAL_MARKS:
        start += 1
    return order[:start] + order[start:stop][::-1] + order[stop:]


class _Reordered:
    """A tree whose words stand in another order."""

    def __init__(self, tree: Tree, order: Sequence[int]):
        place = {word: new for new, word in enumerate(order)}
        heads = [tree.heads[word] for word in order]
        self.heads = [place[head - 1] + 1 if head else 0 for head in heads]
        self.deprels = [tree.deprels[word] for word in order]
        self.upos = [tree.upos[word] for word in order]


@dataclass(frozen=True)
class SyntheticLanguage:
    """A twin of the original language: an order of its words and a spelling of its words.

    Parameters:
        name: parts joined by `_`; orders apply from left to right. See `KNOWN_PARTS`.
        seed: seeds the permutations and the choice of the shared word types.
        alphabet: characters of a tokenizer's vocabulary to spell beyond the standard ones.
    """

    name: str
    seed: int = 0
    alphabet: str = ""

    def __post_init__(self) -> None:
        parts = self.name.split("_")
        spellings = [part for part in parts if part.startswith("trans")]
        for part in parts if self.name != NATURAL else []:
            if part not in {"inv", "perm", "trans", *SYNTAX} and not re.fullmatch(
                r"trans[1-9]\d?", part
            ):
                raise ValueError(
                    f"unknown language {self.name!r} (at {part!r}): the known parts, "
                    f"joined by '_', are {KNOWN_PARTS}"
                )
        if len(spellings) > 1:
            raise ValueError(f"language {self.name!r} names more than one transliteration")
        if self.name != NATURAL:
            object.__setattr__(self, "name", "_".join([*spellings, *self.orders]))

    def __reduce__(self) -> tuple[Any, ...]:
        # Without what it has worked out, so that `datasets` fingerprints a language by its name,
        # whether used before or just loaded.
        return type(self), (self.name, self.seed, self.alphabet)

    @classmethod
    def from_name(cls, name: str, *, seed: int = 0, alphabet: str = "") -> SyntheticLanguage:
        """The language of that name, as `trans_inv`; `ValueError` lists the known parts."""
        return cls(name, seed, alphabet)

    @cached_property
    def orders(self) -> tuple[str, ...]:
        """The parts that change the order of words, in the order they apply."""
        parts = self.name.split("_") if self.name != NATURAL else []
        return tuple(part for part in parts if not part.startswith("trans"))

    @cached_property
    def mapped_share(self) -> float:
        """The share of word types that have a spelling of their own, 0 to 1."""
        part = self.name.split("_")[0]
        if not part.startswith("trans"):
            return 0.0
        return int(part.removeprefix("trans") or 100) / 100

    @cached_property
    def _spelling(self) -> Spelling:
        return spelling(self.alphabet)

    def order(self, words: Sequence[str], *, tree: Tree | None = None, index: int = 0) -> list[int]:
        """The indices of `words` in the derived language's order.

        `index` is the sentence's number in its corpus and seeds `perm`: a sentence's order depends
        on nothing else. `tree` (`heads`, `deprels`, `upos`) is for orders that follow syntax.
        """
        result = list(range(len(words)))
        for position, part in enumerate(self.orders):
            if part == "inv":
                result = _inverted(result, words)
            elif part == "perm":
                random.Random(f"perm/{self.seed}/{position}/{index}").shuffle(result)
            else:
                if tree is None:
                    raise ValueError(
                        f"{part} reorders by syntax: it needs each sentence's tree; take CoNLL-U, "
                        "or parse the text first (python -m hf_alignmlm.parsing)"
                    )
                superstrate, _, best = part.removeprefix("syn-").partition("-")
                moved = _word_orders(superstrate).order(
                    _Reordered(tree, result), seed=self.seed, index=index, best=bool(best)
                )
                result = [result[i] for i in moved]
        return result

    def maps(self, unit: str) -> bool:
        """Whether this word type has a derived spelling of its own, or is shared."""
        if self.mapped_share in (0.0, 1.0):
            return self.mapped_share == 1.0
        digest = blake2b(f"{self.seed}/{unit}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.mapped_share * 2**64

    def spell(self, word: str) -> str:
        """The word in the derived language's spelling; runs of letters and marks are word types."""
        if self.mapped_share == 1.0:
            return word.translate(self._spelling.table)
        if self.mapped_share == 0.0:
            return word
        result, end = "", 0
        for unit, (start, stop) in _SPLIT.pre_tokenize_str(word):
            spelled = unit.translate(self._spelling.table) if self.maps(unit) else unit
            result, end = result + word[end:start] + spelled, stop
        return result + word[end:]

    def unspell(self, word: str) -> str:
        """The inverse of `spell`, for any word not in the derived script to begin with."""
        return word.translate(self._spelling.inverse)

    def derive(
        self, words: Sequence[str], *, tree: Tree | None = None, index: int = 0
    ) -> list[str]:
        """The sentence in the derived language: its words reordered and spelled."""
        return [self.spell(words[i]) for i in self.order(words, tree=tree, index=index)]

    def uses_derived_script(self, text: str) -> bool:
        """Whether `text` already has a character that this language spells with."""
        if text.isascii() or not self.mapped_share:
            return False
        return bool(self._spelling.derived_script.search(text))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the language beside a checkpoint, as `language.json`."""
        write_text(Path(directory) / LANGUAGE_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> SyntheticLanguage:
        """Read the language that lies beside a checkpoint."""
        path = Path(directory) / LANGUAGE_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} does not describe a language: {error}") from None
