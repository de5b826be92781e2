"""Ways to damage a file: of its bytes, of its name, of one value in it.

Each says what is right for it: True, it must be accepted; False, it must be refused; None, either
is fine (a text that lost its end is a text), but a traceback is not.
"""

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = ("text", "jsonl", "csv", "tsv", "conllu", "columns", "dictionary")
STRUCTURED = ("jsonl", "parquet")


@dataclass(frozen=True)
class Damage:
    """What becomes of a file's bytes and name; `right` by format, or for all of them."""

    name: str
    change: Callable[[bytes, Random], bytes]
    right: bool | dict[str, bool | None] | None
    rename: Callable[[str], str] = lambda name: name
    formats: tuple[str, ...] = (*TEXTS, "parquet")

    def verdict(self, form: str) -> bool | None:
        """What is right for a file of this format."""
        return self.right.get(form) if isinstance(self.right, dict) else self.right


def middle(data: bytes, new: bytes) -> bytes:
    """Bytes put between two lines in the middle of a text."""
    lines = data.splitlines(keepends=True)
    half = len(lines) // 2
    return b"".join([*lines[:half], new, *lines[half:]])


def flipped(data: bytes, rng: Random) -> bytes:
    """One bit of the middle part changed: not the magic number, not the final checksum's end."""
    place = rng.randrange(len(data) // 4, max(len(data) // 4 + 1, 3 * len(data) // 4))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def same(data: bytes, rng: Random) -> bytes:
    return data


def packed(data: bytes, rng: Random) -> bytes:
    return gzip.compress(data, mtime=0)


def ending(suffix: str) -> Callable[[str], str]:
    return lambda name: name + suffix


def called(name: str) -> Callable[[str], str]:
    """Another stem; `rows.jsonl` becomes `star[1]*.jsonl`."""
    return lambda old: name + old[old.index(".") :]


# Two aligned files must have as many lines.
ALIGNED = dict.fromkeys(("blank lines at both ends", "twice in one", "cut in two"), False)
YES, NO = dict.fromkeys(TEXTS, True), dict.fromkeys((*TEXTS, "parquet"), False)
HTML = b"<html><body><p>404: no such page</p></body></html>\n"
DAMAGES = [
    Damage("as it is", same, True),
    Damage("byte-order mark", lambda d, r: b"\xef\xbb\xbf" + d, {**YES, "parquet": False}),
    Damage("CRLF", lambda d, r: d.replace(b"\n", b"\r\n"), True, formats=TEXTS),
    Damage("no final newline", lambda d, r: d.rstrip(b"\n"), True, formats=TEXTS),
    Damage("blank lines at both ends", lambda d, r: b"\n\n" + d + b"\n\n", True, formats=TEXTS),
    Damage("empty", lambda d, r: b"", False),
    Damage("only blank lines", lambda d, r: b"\n \n\t\n\n", False),
    Damage("UTF-16", lambda d, r: d.decode().encode("utf-16"), False, formats=TEXTS),
    Damage("latin-1", lambda d, r: middle(d, b"caf\xe9 d\xe9j\xe0 vu\n"), False, formats=TEXTS),
    Damage("NUL bytes", lambda d, r: middle(d, b"\x00\x00\x00\n"), None, formats=TEXTS),
    Damage("NULs throughout", lambda d, r: b"\x00" * 4096, {**NO, "text": None}),
    Damage("random bytes", lambda d, r: r.randbytes(2000), False),
    Damage(
        "cut in two", lambda d, r: d[: r.randrange(len(d) // 3, len(d) // 2)], {"parquet": False}
    ),
    Damage("cut at its end", lambda d, r: d[:-3], dict.fromkeys(STRUCTURED, False)),
    Damage("first byte lost", lambda d, r: d[1:], {**dict.fromkeys(STRUCTURED, False)}),
    Damage("bit flipped", flipped, None),
    Damage("another bit flipped", flipped, None),
    Damage("twice in one", lambda d, r: d + d, {"text": True, "jsonl": True, "conllu": True}),
    Damage("a page of the web", lambda d, r: HTML, dict.fromkeys(STRUCTURED, False)),
    Damage(
        "a Python pickle", lambda d, r: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00]\x94.", False
    ),
    Damage("gzip", packed, {**YES, "parquet": None}, ending(".gz")),
    Damage("gzip, .GZ", packed, None, ending(".GZ")),
    Damage("gzip of a BOM", lambda d, r: packed(b"\xef\xbb\xbf" + d, r), YES, ending(".gz"), TEXTS),
    Damage("gzip, cut", lambda d, r: packed(d, r)[:-20], False, ending(".gz")),
    Damage("gzip, bit flipped", lambda d, r: flipped(packed(d, r), r), False, ending(".gz"), TEXTS),
    Damage("gzip, garbage after", lambda d, r: packed(d, r) + b"garbage", None, ending(".gz")),
    Damage("gzip without .gz", packed, False, formats=(*TEXTS,)),
    Damage("no gzip in .gz", same, False, ending(".gz")),
    Damage("gzip of nothing", lambda d, r: packed(b"", r), False, ending(".gz")),
    Damage("bzip2", lambda d, r: bz2.compress(d), None, ending(".bz2")),
    Damage("xz", lambda d, r: lzma.compress(d), None, ending(".xz")),
    Damage("no zstandard in .zst", same, False, ending(".zst"), formats=("text", "jsonl")),
    Damage("a name with a pattern", same, True, called("star[1]*?")),
    Damage("a name with ::", same, True, called("a::b")),
    Damage("a name with spaces", same, True, called("two  words")),
    Damage("a name of other letters", same, True, called("日本語-é")),
    Damage("a name with =", same, True, called("fr=x")),
    Damage("a name with braces", same, True, called("{x}%s$HOME")),
]

# Values that stand where a text, a list of words, of tags, or a label belongs.
VALUES: dict[str, Any] = {
    **{"null": None, "empty text": "", "white space": "  ", "number": 5, "float": 1.5},
    **{"true": True, "list": ["a", "b"], "empty list": [], "dictionary": {"en": "a", "fr": "b"}},
    **{"list with null": ["a", None, "b"], "list with number": ["a", 5], "nested list": [["a"]]},
    **{
        "minus one": -1,
        "huge number": 10**30,
        "text": "a word",
        "NUL": "a\x00b",
        "huge": "x" * 9000,
    },
}
TEXT_IS = {
    **dict.fromkeys(VALUES, False),
    **dict.fromkeys(("null", "empty text", "white space", "text", "huge"), True),
    "NUL": None,
}
TRANSLATION_IS = dict.fromkeys(VALUES, False) | {"null": True, "dictionary": True}
# A list of words stands where the row has one, but must be as long as the tags.
WORDS_ARE = {**dict.fromkeys(VALUES, False), "null": True, "empty list": None}
CORPUS_WORDS_ARE = {**WORDS_ARE, "list": True, "empty list": True}
LABEL_IS = {
    **dict.fromkeys(VALUES, False),
    **dict.fromkeys(("null", "empty text", "minus one"), True),
    "white space": None,
}
LABELS = {
    **{
        "-": True,
        "Entailment": True,
        "NEUTRAL": True,
        "contradictory": True,
        "contradiction": True,
    },
    **{"0": None, "entailed": False, "yes": False, "LABEL_1": False},
}
TAG_SCHEMES = {
    **{"IOB1": (["I-PER", "I-PER", "O", "I-LOC"], True), "none": (["O", "O", "O", "O"], True)},
    **{
        "BIOES": (["S-LOC", "O", "B-PER", "E-PER"], True),
        "BILOU": (["U-LOC", "O", "B-PER", "L-PER"], True),
    },
    **{"bare": (["PER", "O", "O", "LOC"], False), "X-": (["X-PER", "O", "O", "O"], False)},
    **{"empty tag": (["", "O", "O", "O"], False), "null tag": ([None, "O", "O", "O"], False)},
    **{"lower case": (["b-per", "i-per", "o", "o"], None), "numbers": ([0, 1, 2, 0], False)},
    **{
        "too few": (["O", "O", "O"], False),
        "too many": (["O"] * 5, False),
        "B alone": (["B", "O", "O", "O"], False),
    },
}


def json_lines(rows: list[Any]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> bytes:
    """Rows as a parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), stream)
    return stream.getvalue()


# A sentence of CoNLL-U, and what it may be turned into.
CONLLU = [
    "1\tThe\tthe\tDET\t_\t_\t2\tdet\t_\t_",
    "2\tcat\tcat\tNOUN\t_\t_\t3\tnsubj\t_\t_",
    "3\tsits\tsit\tVERB\t_\t_\t0\troot\t_\t_",
    "4\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\t_",
]


def _line(number: int, column: int, value: str) -> list[str]:
    lines = [line.split("\t") for line in CONLLU]
    lines[number][column] = value
    return ["\t".join(line) for line in lines]


SENTENCES: dict[str, tuple[list[str], bool | None]] = {
    "comments": (["# sent_id = 1", "# text = The cat sits .", *CONLLU], True),
    "a multiword range": ([*CONLLU[:1], "2-3\tcatsits\t_\t_\t_\t_\t_\t_\t_\t_", *CONLLU[1:]], True),
    "an empty node": ([*CONLLU[:2], "2.1\tx\t_\tX\t_\t_\t_\t_\t_\t_", *CONLLU[2:]], True),
    "head out of range": (_line(0, 6, "9"), False),
    "negative head": (_line(0, 6, "-2"), False),
    "head that is no number": (_line(0, 6, "x"), False),
    "head of its own": (_line(0, 6, "1"), False),
    "a cycle": (_line(2, 6, "1"), False),
    "no head": (_line(0, 6, "_"), None),
    "no relation": (_line(0, 7, "_"), None),
    "no part of speech": (_line(0, 3, "_"), None),
    "an unknown part of speech": (_line(0, 3, "NONSENSE"), None),
    "two roots": (_line(1, 6, "0"), None),
    "no word": (_line(0, 1, ""), None),
    "nine columns": ([line.rpartition("\t")[0] for line in CONLLU], None),
    "three columns": (["\t".join(line.split("\t")[:3]) for line in CONLLU], False),
    "spaces for tabs": ([line.replace("\t", "  ") for line in CONLLU], None),
    "ids that jump": (_line(1, 0, "7"), None),
    "ids that are words": (_line(1, 0, "cat"), None),
    "a huge word": (_line(1, 1, "x" * 5000), None),
    "a word with a space": (_line(1, 1, "black cat"), True),
    "a word of white space": (_line(1, 1, "\u00a0"), None),
}
