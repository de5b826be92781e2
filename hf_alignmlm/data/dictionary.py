"""The bilingual dictionary: pairs of like meaning, some seen in training, the rest held out."""

import json
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from hf_alignmlm.files import read_json, read_lines, write_text

Pieces = tuple[int, ...]
Pair = tuple[Pieces, Pieces]
DICTIONARY_FILE = "dictionary.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class BilingualDictionary:
    """Pairs (original, derived) of token-id sequences, drawn once with a seed and saved.

    It is a file beside the model, not a draw of the model's own, so that every process and every
    later load has the same pairs. `seen` pairs train; `heldout` pairs only measure. `skipped`
    counts the unusable lines of the file it came from.
    """

    seen: tuple[Pair, ...]
    heldout: tuple[Pair, ...] = ()
    fraction: float = 1.0
    seed: int = 0
    skipped: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return len(self.seen) + len(self.heldout)

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[tuple[Sequence[int] | int, Sequence[int] | int]],
        *,
        fraction: float = 1.0,
        seed: int = 0,
        skipped: int = 0,
    ) -> Self:
        """Draw `fraction` (0 to 1) of the original words, and all their pairs, as seen.

        The draw is without replacement; the other words' pairs are held out. It is by word, because
        a held-out pair whose word has a seen translation would not be unseen. Raises `ValueError`
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
        heldout = tuple(pair for pair in unique if pair[0] not in chosen)
        return cls(seen, heldout, fraction, seed, skipped)

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

        `encode` turns a word (or a phrase, between tabs) into token ids. A line without exactly two
        columns, or with a word that the vocabulary does not know, is skipped and counted; a file
        with no usable line is a `ValueError`.
        """
        pairs: list[Pair] = []
        skipped = 0
        for line in filter(None, map(str.strip, read_lines(path))):
            columns = line.split("\t") if "\t" in line else line.split()
            ids = [tuple(encode(column.strip())) for column in columns]
            if len(ids) == 2 and all(i and unknown_id not in i for i in ids):
                pairs.append((ids[0], ids[1]))
            else:
                skipped += 1
        if not pairs:
            raise ValueError(
                f"{path} has no usable line (of {skipped}): give two words a line, tab or white "
                "space between, that the tokenizer's vocabulary can spell"
            )
        return cls.from_pairs(pairs, fraction=fraction, seed=seed, skipped=skipped)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write the dictionary beside a checkpoint, as `dictionary.json`."""
        head = {"version": FORMAT_VERSION, "fraction": self.fraction, "seed": self.seed}
        data = head | {"seen": self.seen, "heldout": self.heldout}
        write_text(Path(directory) / DICTIONARY_FILE, json.dumps(data) + "\n")

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Read the dictionary that lies in a folder, or is this file."""
        path = Path(path) / DICTIONARY_FILE if Path(path).is_dir() else Path(path)
        data = read_json(path)
        try:
            if data["version"] != FORMAT_VERSION:
                raise ValueError(f"version {data['version']}, not {FORMAT_VERSION}")
            groups = [data["seen"], data["heldout"]]
            seen, heldout = (tuple((_pieces(a), _pieces(b)) for a, b in group) for group in groups)
            words = list(chain.from_iterable(seen + heldout))
            ids = set(chain.from_iterable(words))
            if not (words and all(words) and all(type(i) is int and i >= 0 for i in ids)):
                raise ValueError("its pairs are not of token ids")
            if not (0 <= data["fraction"] <= 1 and type(data["seed"]) is int):
                raise ValueError("its fraction or seed is no such number")
            return cls(seen, heldout, data["fraction"], data["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a dictionary of this library: {error}") from None

    def single_piece_pairs(self) -> list[tuple[int, int]]:
        """The seen pairs of one piece each, which dict-mlm can swap in place."""
        return [(a[0], b[0]) for a, b in self.seen if len(a) == len(b) == 1]


def _pieces(word: Sequence[int] | int) -> Pieces:
    return (word,) if isinstance(word, int) else tuple(word)


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
        if self.offsets is None:
            return embeddings.index_select(0, self.pieces)
        return torch.nn.functional.embedding_bag(self.pieces, embeddings, self.offsets, mode="mean")
