"""The bilingual dictionary: pairs of like meaning, some seen in training, the rest held out."""

import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Self
from unicodedata import normalize

import torch
from torch import Tensor

from hf_alignmlm.files import read_json, read_lines, write_text

Pieces = tuple[int, ...]
Pair = tuple[Pieces, Pieces]
DICTIONARY_FILE = "dictionary.json"
FORMAT_VERSION = 1
# Why a line of a file is no use.
SKIPPED = ("columns", "empty", "unknown", "repeated")
# How much each original word weighs in the alignment loss.
WORD_WEIGHTS = ("uniform", "frequency")


@dataclass(frozen=True)
class BilingualDictionary:
    """Pairs (original, derived) of token-id sequences, drawn once with a seed and saved.

    It is a file beside the model, not a draw of the model's own, so that every process and every
    later load has the same pairs. `seen` pairs train; `heldout` pairs only measure; `linked` pairs
    do neither, for they join a held-out word to a seen one. `counts` says how often the words of
    each side occur in text, in the order of `words`. `parts` are the dictionaries that `join` made
    this one of. `skipped` counts the unusable lines of the file it came from, by reason.
    """

    seen: tuple[Pair, ...]
    heldout: tuple[Pair, ...] = ()
    fraction: float = 1.0
    seed: int = 0
    linked: tuple[Pair, ...] = ()
    counts: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    parts: tuple[tuple[str, "BilingualDictionary"], ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.seen) + len(self.heldout)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All pairs: seen, held out, linked."""
        return self.seen + self.heldout + self.linked

    @cached_property
    def words(self) -> tuple[tuple[Pieces, ...], tuple[Pieces, ...]]:
        """The different original and derived words, in the order of `pairs`."""
        original, derived = (tuple(dict.fromkeys(side)) for side in zip(*self.pairs, strict=True))
        return original, derived

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[tuple[Sequence[int] | int, Sequence[int] | int]],
        *,
        fraction: float = 1.0,
        seed: int = 0,
        skipped: Mapping[str, int] | None = None,
    ) -> Self:
        """Draw `fraction` (0 to 1) of the original words, and all their pairs, as seen.

        The draw is without replacement and by word: a pair whose word has a seen translation would
        not be unseen. Pairs of the other words are held out; those whose derived word is seen in
        another pair are only `linked`. Parts of the dictionary without a link between them cannot
        be drawn whole instead: one of them may hold nearly half of all pairs. Raises `ValueError`
        for a fraction outside 0 to 1 or no pairs at all.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"dictionary_fraction must lie between 0 and 1, not {fraction}")
        unique = list(dict.fromkeys((_pieces(a), _pieces(b)) for a, b in pairs))
        if not unique:
            raise ValueError("a dictionary needs at least one pair")
        originals = sorted({original for original, _ in unique})
        random.Random(f"dictionary/{seed}").shuffle(originals)
        chosen = set(originals[: math.floor(fraction * len(originals) + 0.5)])
        seen = tuple(pair for pair in unique if pair[0] in chosen)
        learned = {derived for _, derived in seen}
        others = [pair for pair in unique if pair[0] not in chosen]
        heldout = tuple(pair for pair in others if pair[1] not in learned)
        linked = tuple(pair for pair in others if pair[1] in learned)
        return cls(seen, heldout, fraction, seed, linked, skipped=skipped or {})

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        encode: Callable[[str], Sequence[int]],
        *,
        unknown_id: int | None = None,
        fraction: float = 1.0,
        seed: int = 0,
    ) -> Self:
        """Read a text file of two columns: a tab between them or, in a line without one, a space.

        `encode` turns a word (or a phrase, between tabs) into token ids; composed and decomposed
        characters are the same. A line is one pair: a word with more translations has more lines,
        and what stands between commas or semicolons is part of a phrase. A line without exactly two
        columns (reason `columns`), with a column of no word (`empty`) or a word that the vocabulary
        does not know (`unknown`), or that is there before (`repeated`) is skipped and counted; a
        file with no usable line is a `ValueError`.
        """
        pairs: dict[Pair, None] = {}
        skipped: dict[str, int] = dict.fromkeys(SKIPPED, 0)
        for line in filter(None, map(str.strip, read_lines(path))):
            columns = line.split("\t") if "\t" in line else line.split()
            ids = [_spelled(column.strip(), encode, unknown_id) for column in columns]
            if len(ids) != 2:
                skipped["columns"] += 1
            elif not all(ids):
                skipped["empty"] += 1
            elif any(unknown_id in word for word in ids):
                skipped["unknown"] += 1
            elif (pair := (ids[0], ids[1])) in pairs:
                skipped["repeated"] += 1
            else:
                pairs[pair] = None
        if not pairs:
            raise ValueError(
                f"{path} has no usable line (of {sum(skipped.values())}): give two words a line, "
                "tab or white space between, that the tokenizer's vocabulary can spell"
            )
        return cls.from_pairs(pairs, fraction=fraction, seed=seed, skipped=skipped)

    def check_ids(self, vocab_size: int) -> None:
        """Raise ValueError where a word has a token outside a vocabulary of that size."""
        ids = [i for pair in self.pairs for word in pair for i in word]
        if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
            raise ValueError(
                f"the dictionary has ids from {min(ids)} to {max(ids)}, outside the model's "
                f"vocabulary of {vocab_size}: make it with the model's own tokenizer"
            )

    def with_counts(self, original: Iterable[int], derived: Iterable[int]) -> Self:
        """This dictionary, with how often the words of each side occur, in the order of `words`."""
        counts = tuple(original), tuple(derived)
        if [*map(len, counts)] != [*map(len, self.words)]:
            raise ValueError("counts must be one a word, in the order of the dictionary's words")
        return replace(self, counts=counts)

    def weights(self, by: str = "uniform") -> list[float]:
        """The weight of each seen pair in the alignment loss.

        Each original word weighs the same, or (`frequency`) as often as it occurs in the text and
        once if it never does; its translations share that. ValueError for another `by`, and for
        `frequency` without counts.
        """
        if by not in WORD_WEIGHTS:
            known = ", ".join(WORD_WEIGHTS)
            raise ValueError(f"unknown alignment_word_weights {by!r}: known are {known}")
        if self.parts:
            return [weight for _, part in self.parts for weight in part.weights(by)]
        if by == "frequency" and self.counts is None:
            raise ValueError(
                "alignment_word_weights frequency needs a dictionary that knows how often its "
                "words occur: give --dictionary_file and the text of each language"
            )
        shares = Counter(original for original, _ in self.seen)
        if by == "uniform" or self.counts is None:
            return [1 / shares[original] for original, _ in self.seen]
        number = dict(zip(self.words[0], self.counts[0], strict=True))
        return [max(1, number[original]) / shares[original] for original, _ in self.seen]

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write the dictionary beside a checkpoint, as `dictionary.json`."""
        text = json.dumps({"version": FORMAT_VERSION} | self._data())
        write_text(Path(directory) / DICTIONARY_FILE, text + "\n")

    def _data(self) -> dict[str, Any]:
        if self.parts:
            return {"parts": {name: part._data() for name, part in self.parts}}
        data: dict[str, Any] = {"fraction": self.fraction, "seed": self.seed}
        data |= {"seen": self.seen, "heldout": self.heldout}
        more = {"linked": self.linked, "counts": self.counts}
        return data | {name: value for name, value in more.items() if value}

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "BilingualDictionary":
        """Read the dictionary that lies in a folder, or is this file."""
        path = Path(path) / DICTIONARY_FILE if Path(path).is_dir() else Path(path)
        data = read_json(path)
        try:
            if data["version"] != FORMAT_VERSION:
                raise ValueError(f"version {data['version']}, not {FORMAT_VERSION}")
            if "parts" in data:
                return join({name: cls._from_data(part) for name, part in data["parts"].items()})
            return cls._from_data(data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a dictionary of this library: {error}") from None

    @classmethod
    def _from_data(cls, data: Mapping[str, Any]) -> Self:
        groups = [data["seen"], data["heldout"], data.get("linked", ())]
        seen, heldout, linked = (tuple((_pieces(a), _pieces(b)) for a, b in g) for g in groups)
        words = list(chain.from_iterable(seen + heldout + linked))
        counts = data.get("counts")
        ids = set(chain.from_iterable(words))
        if not (words and all(words) and all(type(i) is int and i >= 0 for i in ids)):
            raise ValueError("its pairs are not of token ids")
        if not (0 <= data["fraction"] <= 1 and type(data["seed"]) is int):
            raise ValueError("its fraction or seed is no such number")
        read = cls(seen, heldout, data["fraction"], data["seed"], linked)
        if counts is None:
            return read
        if not all(type(n) is int and n >= 0 for n in chain(*counts)):
            raise ValueError("its counts are no such numbers")
        return read.with_counts(*counts)

    def single_piece_pairs(self) -> list[tuple[int, int]]:
        """The seen pairs of one piece each, which dict-mlm can swap in place."""
        return [(a[0], b[0]) for a, b in self.seen if len(a) == len(b) == 1]


def join(parts: Mapping[str, BilingualDictionary]) -> BilingualDictionary:
    """One dictionary of several pairs of languages, by name (`en-fr`), for one model.

    Its pairs are those of all parts, in order. One part alone is that part.
    """
    if len(parts) < 2:
        return next(iter(parts.values()))
    seen, heldout, linked = (
        tuple(chain.from_iterable(getattr(part, group) for part in parts.values()))
        for group in ("seen", "heldout", "linked")
    )
    first = next(iter(parts.values()))
    return BilingualDictionary(
        seen, heldout, first.fraction, first.seed, linked, parts=tuple(parts.items())
    )


def _pieces(word: Sequence[int] | int) -> Pieces:
    return (word,) if isinstance(word, int) else tuple(word)


def _spelled(word: str, encode: Callable[[str], Sequence[int]], unknown_id: int | None) -> Pieces:
    """The ids of a word, composed or decomposed, whichever the vocabulary spells in fewer pieces.

    Tokenizers keep the two apart, and texts have either.
    """
    forms = dict.fromkeys(normalize(form, word) for form in ("NFC", "NFD"))
    return min(map(tuple, map(encode, forms)), key=lambda ids: (unknown_id in ids, len(ids)))


class WordPieces(torch.nn.Module):
    """Words as the mean of the embeddings of their pieces.

    Buffers move with the model; they are not persistent, so that a checkpoint stays plain.
    """

    pieces: Tensor
    offsets: Tensor | None

    def __init__(self, words: Sequence[Pieces]):
        super().__init__()
        pieces = torch.tensor([piece for word in words for piece in word], dtype=torch.long)
        # Where each word's pieces start: words of 1, 2 and 1 pieces start at 0, 1 and 3. Words of
        # one piece each need no mean.
        starts = torch.tensor([0, *map(len, words)], dtype=torch.long)[:-1].cumsum(0)
        self.register_buffer("pieces", pieces, persistent=False)
        offsets = None if len(pieces) == len(words) else starts
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, embeddings: Tensor) -> Tensor:
        """[vocabulary, d] embeddings to [words, d]."""
        return mean_of_pieces(embeddings, self.pieces, self.offsets)

    def take(self, numbers: Tensor) -> tuple[Tensor, Tensor | None]:
        """The pieces of the words of these numbers, and where each starts, for `mean_of_pieces`.

        Of words [1], [2, 3] and [4] the numbers [1, 2] give the pieces [2, 3, 4], starts [0, 2].
        """
        if self.offsets is None:
            return self.pieces[numbers], None
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([len(self.pieces)])])
        sizes = (ends - self.offsets)[numbers]
        starts = sizes.cumsum(0) - sizes
        places = torch.arange(int(sizes.sum()), device=sizes.device)
        places += (self.offsets[numbers] - starts).repeat_interleave(sizes)
        return self.pieces[places], starts


def mean_of_pieces(embeddings: Tensor, pieces: Tensor, starts: Tensor | None) -> Tensor:
    """[vocabulary, d] embeddings to [words, d]; without `starts`, each piece is a word."""
    if starts is None:
        return embeddings.index_select(0, pieces)
    return torch.nn.functional.embedding_bag(pieces, embeddings, starts, mode="mean")
