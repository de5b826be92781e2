"""A batch of sentences of token ids to sequences of one length."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value

# The columns of `parallel.PAIRS` that hold sentences.
PAIR_COLUMNS = ("source", "target")
# The number of a sequence's language; -k is a pair: the source's sentences in the first half, and
# what they are in language k in the second.
ORIGINAL, DERIVED, PAIR = 0, 1, -1

PACKED = Features({"input_ids": List(Value("int32")), "language": Value("int8")})


def _uniform(seed: int, index: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each index: SplitMix64's mixing of it with the seed."""
    with np.errstate(over="ignore"):
        state = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def _lists(column: pa.ChunkedArray) -> list[np.ndarray]:
    """A column's lists as views of one array; made row by row, they took most of the time."""
    lists = column.combine_chunks()
    return np.split(lists.flatten().to_numpy(), np.cumsum(lists.value_lengths().to_numpy()))[:-1]


def _best_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Which items share a place of this capacity: the largest come first, each where it fits best.

    For a capacity of 5 the sizes [2, 1, 3] give [[2, 0], [1]].
    """
    places: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    for item in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        size = sizes[item]
        free = next((n for n in range(size, capacity) if with_room[n]), capacity)
        if free == capacity:
            places.append([])
        place = with_room[free].pop() if free < capacity else len(places) - 1
        places[place].append(item)
        with_room[free - size].append(place)
    return places


@dataclass
class Packer:
    """Makes sequences of a batch of sentences."""

    languages: Mapping[str, int]
    length: int
    isolate: bool
    pair_rate: float
    seed: int
    cls: int
    sep: int
    pad: int
    pair: int = PAIR

    def __call__(self, batch: pa.Table, _: Sequence[int]) -> pa.Table:
        arrange = self.isolated if self.isolate else self.run_on
        rows = {n: arrange(_lists(batch[name])) for name, n in self.languages.items()}
        if self.pair_rate > 0:
            chosen = _uniform(self.seed, batch["index"].to_numpy()) < self.pair_rate
            natural = "target" in batch.column_names
            names = PAIR_COLUMNS if natural else ("original", "derived", "pieces", "order")
            columns = (_lists(batch[name]) for name in names)
            pair_up = self.translations if natural else self.pairs
            rows[self.pair] = pair_up(compress(zip(*columns, strict=True), chosen))
        sequences = [sequence for group in rows.values() for sequence in group]
        ends = np.cumsum([0, *map(len, sequences)], dtype=np.int32)
        flat = np.concatenate(sequences or [np.zeros(0)]).astype(np.int32)
        kinds = [kind for kind, group in rows.items() for _ in group]
        ids = pa.ListArray.from_arrays(ends, flat)
        return pa.table({"input_ids": ids, "language": kinds}, schema=PACKED.arrow_schema)

    def run_on(self, sentences: list[np.ndarray]) -> list[np.ndarray]:
        """Sentences, each closed by [SEP], end to end and cut; only the last sequence is short."""
        cls, sep = np.array([[self.cls], [self.sep]], np.int32)
        room = self.length - 1
        flat = np.concatenate([part for sentence in sentences for part in (sentence, sep)])
        starts = range(0, len(flat), room)
        return [np.concatenate([cls, flat[start : start + room]]) for start in starts]

    def isolated(self, sentences: list[np.ndarray]) -> list[np.ndarray]:
        """Sentences between [CLS] and [SEP], dealt by best fit; only one too long is cut."""
        room = self.length - 2
        parts = [s[start : start + room] for s in sentences for start in range(0, len(s), room)]
        places = _best_fit([len(part) + 2 for part in parts], self.length)
        return [self._framed([parts[item] for item in items], True) for items in places]

    def _framed(self, sentences: Iterable[np.ndarray], isolate: bool) -> np.ndarray:
        """Sentences closed by [SEP], the first or, to isolate them, each opened by [CLS]."""
        parts: list[Any] = []
        for sentence in sentences:
            opening = [self.cls] if isolate or not parts else []
            parts += [opening, sentence, [self.sep]]
        return np.concatenate(parts).astype(np.int32)

    def translations(self, pairs: Iterable[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        """Sentences in the first half of a sequence and their translations in the second.

        Pairs are dealt by best fit. Nothing says which words of a pair belong together, so one with
        a side longer than a half does not go on in the next sequence: both sides are cut, to the
        same share, and what is left still says about the same.
        """
        half = self.length // 2
        room, rows, cut = half - 2, [], []
        for pair in pairs:
            longest = max(room, *map(len, pair))
            cut.append([side[: -(-len(side) * room // longest)] for side in pair])
        # Of sentences that are not isolated, the first alone has an opening.
        ends = 2 if self.isolate else 1
        for items in _best_fit([max(map(len, pair)) + ends for pair in cut], room + ends):
            rows.append(np.full(2 * half, self.pad))
            for side, start in enumerate((0, half)):
                ids = self._framed((cut[item][side] for item in items), self.isolate)
                rows[-1][start : start + len(ids)] = ids
        return rows

    def pairs(self, sentences: Iterable[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        """Sentences in the first half of a sequence and their twins in the second.

        A sentence that does not fit is cut between words and goes on in the next sequence; its twin
        takes the same words, in the derived order. A word longer than a half is left out.
        """
        half, rows = self.length // 2, []
        first: list[int] = []
        second: list[int] = []

        def close() -> None:
            rows.append(np.full(2 * half, self.pad))
            rows[-1][: len(first)] = first
            rows[-1][half : half + len(second)] = second
            first.clear()
            second.clear()

        for original, derived, pieces, order in sentences:
            ends = np.concatenate([[0], np.cumsum(pieces)])
            derived_ends = np.concatenate([[0], np.cumsum(pieces[order])])
            word = 0
            while word < len(pieces):
                opening = [self.cls] if self.isolate or not first else []
                room = half - len(first) - len(opening) - 1
                stop = int(np.searchsorted(ends, ends[word] + room, side="right")) - 1
                if stop > word:
                    first += [*opening, *original[ends[word] : ends[stop]], self.sep]
                    second += opening
                    for place in np.flatnonzero((order >= word) & (order < stop)):
                        second += derived[derived_ends[place] : derived_ends[place + 1]].tolist()
                    second.append(self.sep)
                    word = stop
                elif first:
                    close()
                else:
                    word += 1
        if first:
            close()
        return rows
