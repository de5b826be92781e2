"""Spellings: characters to scripts of their own, one to one."""

from functools import lru_cache
from typing import NamedTuple

from tokenizers.pre_tokenizers import BertPreTokenizer

PRE_TOKENIZER = BertPreTokenizer()


def _characters(ranges: str) -> list[str]:
    bounds = [[int(code, 16) for code in pair.split("-")] for pair in ranges.split()]
    return [chr(code) for first, last in bounds for code in range(first, last + 1)]


# What every language can spell, whatever the tokenizer: Latin, Greek, Cyrillic, common symbols.
_STANDARD = _characters("21-7E A1-52F 1E00-1FFF 2010-2027 2030-203A 20A0-20CF 2100-218F")
# Targets have no case and no decomposition, so that BERT's normaliser leaves them as they are:
# Canadian syllabics first, then Yi, Vai, Bamum, Tangut, cuneiform and hieroglyphs.
_LETTERS = _characters(
    "1401-166C 166F-167F 18B0-18F5 A000-A48C A500-A60C 16800-16A38 17000-187F7 12000-12399 "
    "13000-1342F"
)
# Supplemental punctuation first, then that of scripts no longer written. Only what the tokenizers
# library itself takes for punctuation: its tables are older than Unicode's.
_PUNCTUATION = _characters(
    "2E00-2E2E 2E30-2E42 10A50-10A58 10AF0-10AF6 10B39-10B3F 11047-1104D 11140-11143 111C5-111C9 "
    "11238-1123D 115C1-115D7 12470-12474 16B37-16B3B"
)
# All that derived languages are written in. No vocabulary has one of these to begin with.
DERIVED_CHARACTERS = frozenset(_LETTERS + _PUNCTUATION)


def is_punctuation(character: str) -> bool:
    """Whether BERT's pre-tokenizer makes a word of its own of this character."""
    return len(PRE_TOKENIZER.pre_tokenize_str(f"a{character}a")) == 3


class Spelling(NamedTuple):
    """A one-to-one map of characters, both ways as `str.translate` takes it, and what it gives.

    Letters become letters and punctuation becomes punctuation, so a spelled word is a word to
    BERT's normaliser and pre-tokenizer as well.
    """

    table: dict[int, str]
    inverse: dict[int, str]
    characters: frozenset[str]


@lru_cache(maxsize=8)
def spelling(alphabet: str = "") -> Spelling:
    """The spelling of the standard characters and, after them, of those in `alphabet`.

    `ValueError` where `alphabet` has a derived character, or more than there is room for.
    """
    if clash := sorted(DERIVED_CHARACTERS.intersection(alphabet)):
        raise ValueError(
            f"the vocabulary already uses the derived script ({clash[0]!r}, "
            f"U+{ord(clash[0]):04X}): it cannot be doubled (again)"
        )
    targets, table = {True: iter(_PUNCTUATION), False: iter(_LETTERS)}, dict[int, str]()
    for character in dict.fromkeys([*_STANDARD, *sorted(alphabet)]):
        target = next(targets[is_punctuation(character)], None)
        if target is None:
            raise ValueError(
                f"the vocabulary has more characters than the derived script: at most "
                f"{len(_LETTERS)} letters and {len(_PUNCTUATION)} punctuation marks"
            )
        table[ord(character)] = target
    inverse = {ord(target): chr(code) for code, target in table.items()}
    return Spelling(table, inverse, frozenset(table.values()))
