"""Sentences of token ids to sequences of one length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, IterableDataset, List, Value
from transformers import PreTrainedTokenizerBase

from hf_alignmlm.data.sources import Corpus, code_digest
from hf_alignmlm.data.tokenizer import reserved_ids

# The language of a sequence; a pair has an original first half and its derived twin second.
ORIGINAL, DERIVED, PAIR = 0, 1, 2
LANGUAGES = {"original": ORIGINAL, "derived": DERIVED}

PACKED = Features({"input_ids": List(Value("int32")), "language": Value("int8")})
# Sentences packed together; a sequence never spans two of these groups.
PACKING_BATCH = 10_000


def _uniform(seed: int, index: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each index: SplitMix64's mixing of it with the seed."""
    with np.errstate(over="ignore"):
        state = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def _stream(sentences: Sequence[np.ndarray], length: int, cls: int, sep: int) -> list[np.ndarray]:
    """Sentences, each closed by [SEP], end to end, cut into sequences; only the last is short."""
    flat = np.concatenate([part for s in sentences for part in (s, [sep])]).astype(np.int32)
    starts = range(0, len(flat), length - 1)
    first = np.array([cls], np.int32)
    return [np.concatenate([first, flat[start : start + length - 1]]) for start in starts]


def _fit(sentences: Sequence[np.ndarray], length: int, cls: int, sep: int) -> list[np.ndarray]:
    """Whole sentences, each between [CLS] and [SEP], dealt to sequences by best fit.

    Only a sentence that is longer than a sequence is cut.
    """
    room = length - 2
    parts = [s[start : start + room] for s in sentences for start in range(0, len(s), room)]
    sequences: list[list[np.ndarray]] = []
    with_room: list[list[int]] = [[] for _ in range(length + 1)]
    for part in sorted(parts, key=len, reverse=True):
        size = len(part) + 2
        free = next((free for free in range(size, length) if with_room[free]), length)
        if free == length:
            sequences.append([])
        place = with_room[free].pop() if free < length else len(sequences) - 1
        sequences[place] += [np.array([cls]), part, np.array([sep])]
        with_room[free - size].append(place)
    return [np.concatenate(sequence).astype(np.int32) for sequence in sequences]


def _pairs(
    batch: dict[str, Any], length: int, cls: int, sep: int, pad: int, isolate: bool
) -> list[np.ndarray]:
    """Sentences in the first half of a sequence and their twins in the second.

    A sentence that does not fit is cut between words and goes on in the next sequence; its twin
    takes the same words, in the derived order. A word longer than a half is left out.
    """
    half, rows = length // 2, []
    sides: tuple[list[int], list[int]] = ([], [])

    def flush() -> None:
        padded = [side + [pad] * (half - len(side)) for side in sides]
        rows.append(np.concatenate(padded).astype(np.int32))
        for side in sides:
            side.clear()

    for original, derived, pieces, order in zip(
        *(batch[name] for name in ("original", "derived", "pieces", "order")), strict=True
    ):
        order = np.asarray(order)
        ends = np.concatenate([[0], np.cumsum(pieces)])
        derived_ends = np.concatenate([[0], np.cumsum(np.asarray(pieces)[order])])
        word = 0
        while word < len(pieces):
            opening = [cls] if isolate or not sides[0] else []
            room = half - len(sides[0]) - len(opening) - 1
            stop = int(np.searchsorted(ends, ends[word] + room, side="right")) - 1
            if stop <= word:
                if sides[0]:
                    flush()
                else:
                    word += 1
                continue
            sides[0].extend([*opening, *original[ends[word] : ends[stop]], sep])
            sides[1].extend(opening)
            for place in np.flatnonzero((order >= word) & (order < stop)):
                sides[1].extend(derived[derived_ends[place] : derived_ends[place + 1]])
            sides[1].append(sep)
            word = stop
    if sides[0]:
        flush()
    return rows


def _lists(column: Any) -> Any:
    """A column of a table as views of one array; made row by row, they took most of the time."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    array = column.combine_chunks()
    if not pa.types.is_list(array.type):
        return array.to_numpy()
    ends = np.cumsum(array.value_lengths().to_numpy())
    return np.split(array.flatten().to_numpy(), ends)[:-1]


def _pack(
    batch: Any,
    *,
    languages: Sequence[int],
    max_seq_length: int,
    pair_rate: float,
    seed: int,
    cls: int,
    sep: int,
    pad: int,
    isolate: bool,
    digest: str,
) -> Any:
    names = {ORIGINAL: "original", DERIVED: "derived"}
    rows, kinds = [], []
    for language in languages:
        arrange = _fit if isolate else _stream
        sequences = arrange(_lists(batch[names[language]]), max_seq_length, cls, sep)
        rows += sequences
        kinds += [language] * len(sequences)
    if pair_rate > 0:
        chosen = _uniform(seed, np.asarray(batch["index"])) < pair_rate
        picked = {
            name: [v for v, keep in zip(_lists(batch[name]), chosen, strict=True) if keep]
            for name in ("original", "derived", "pieces", "order")
        }
        sequences = _pairs(picked, max_seq_length, cls, sep, pad, isolate)
        rows += sequences
        kinds += [PAIR] * len(sequences)
    if isinstance(batch, pa.Table):
        ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
        flat = np.concatenate(rows) if rows else np.zeros(0, np.int32)
        columns = {"input_ids": pa.ListArray.from_arrays(ends, flat), "language": kinds}
        return pa.table(columns, schema=PACKED.arrow_schema)
    return {"input_ids": rows, "language": kinds}


def pack(
    tokenized: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_length: int,
    languages: Sequence[str] = ("original", "derived"),
    isolate_sentences: bool = False,
    pair_rate: float = 0.0,
    seed: int = 0,
    name: str = "corpus",
) -> Corpus:
    """Pack tokenized sentences (`corpora.TOKENIZED`) into sequences of `max_seq_length` tokens.

    Each language's sentences run on end to end or, where they are not to see each other, stay whole
    and are dealt to where they fit. With a `pair_rate`, that share of the sentences also goes into
    pairs. One process packs, so that the result does not depend on how many there are. Rows are
    `PACKED`.
    """
    if max_seq_length < 8:
        raise ValueError(f"max_seq_length must be at least 8, not {max_seq_length}")
    arguments = {
        "languages": [LANGUAGES[language] for language in languages],
        "max_seq_length": max_seq_length,
        "pair_rate": pair_rate,
        "seed": seed,
        "cls": tokenizer.cls_token_id,
        "sep": tokenizer.sep_token_id,
        "pad": tokenizer.pad_token_id,
        "isolate": isolate_sentences,
        "digest": code_digest(),
    }
    options: dict[str, Any] = {
        "batched": True,
        "batch_size": PACKING_BATCH,
        "fn_kwargs": arguments,
        "features": PACKED,
        "remove_columns": ["original", "derived", "pieces", "order", "index"],
    }
    if isinstance(tokenized, Dataset):
        tokenized = tokenized.with_format("arrow")
        packed = tokenized.map(_pack, desc=f"Packing {name}", **options)
        return packed.with_format("numpy")
    return tokenized.map(_pack, **options)


def _tokens(packed: Dataset, language: int | None = None) -> np.ndarray:
    columns = packed.with_format("arrow")[:]
    ids = columns["input_ids"].combine_chunks()
    flat = ids.flatten().to_numpy(zero_copy_only=False)
    if language is None:
        return flat
    of_language = columns["language"].to_numpy() == language
    return flat[np.repeat(of_language, ids.value_lengths().to_numpy())]


def packing_report(
    train: Dataset,
    evaluation: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
) -> dict[str, float]:
    """The share of padding in percent, and each language's word-frequency baseline in nats.

    The baseline is the loss of predicting every evaluation token by its frequency in the training
    text of its language (plus one): what a masked LM that knows nothing of context would reach.
    """
    flat = _tokens(train)
    used = np.count_nonzero(flat != tokenizer.pad_token_id)
    report: dict[str, float] = {}
    report["padding_share"] = float(100 * (1 - used / (len(train) * max_seq_length)))
    ordinary = np.ones(len(tokenizer), dtype=bool)
    ordinary[reserved_ids(tokenizer)] = False
    for name, rows in evaluation.items():
        counts = np.bincount(_tokens(train, LANGUAGES[name]), minlength=len(tokenizer)) + 1
        surprise = -np.log(counts / counts[ordinary].sum())
        tokens = _tokens(rows)
        report[f"eval_{name}_frequency_baseline_loss"] = float(
            surprise[tokens[ordinary[tokens]]].mean()
        )
    return report


class _Epoch:
    """The epoch, in memory that a data loader's workers share.

    Workers that persist hold the data set as it was when they started: a plain attribute would stay
    at the first epoch there.
    """

    def __init__(self) -> None:
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch that masks are drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self._epoch[0] = epoch


class EpochDataset(_Epoch, torch.utils.data.Dataset):
    """Packed sequences with their number and the epoch: masks are a function of both."""

    def __init__(self, packed: Dataset):
        super().__init__()
        self.packed = packed.with_format("numpy")

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows = self.packed[indices]
        return [
            {"input_ids": ids, "language": language, "example": index, "epoch": self.epoch}
            for ids, language, index in zip(
                rows["input_ids"], rows["language"], indices, strict=True
            )
        ]


class EpochStream(_Epoch, torch.utils.data.IterableDataset):
    """`EpochDataset` for a stream: sequences are numbered as they come."""

    def __init__(self, packed: IterableDataset, *, shuffle_buffer: int = 0, seed: int = 0):
        super().__init__()
        self.packed = packed.map(
            lambda row, index: {"example": index}, with_indices=True
        ).with_format("numpy")
        if shuffle_buffer:
            self.packed = self.packed.shuffle(seed=seed, buffer_size=shuffle_buffer)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch = self.epoch
        self.packed.set_epoch(epoch)  # reseeds the shuffle
        for row in self.packed:
            yield {**row, "epoch": epoch}
