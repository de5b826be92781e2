"""Spellings: characters to scripts of their own, one to one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from tokenizers.pre_tokenizers import BertPreTokenizer

PRE_TOKENIZER = BertPreTokenizer()

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


# All that derived languages are written in. No vocabulary has one of these to begin with.
DERIVED_CHARACTERS = frozenset(_characters((*_LETTER_RANGES, *_PUNCTUATION_RANGES)))


def is_punctuation(character: str) -> bool:
    """Whether BERT's pre-tokenizer makes a word of its own of this character."""
    return len(PRE_TOKENIZER.pre_tokenize_str(f"a{character}a")) == 3


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
