"""Sentences of token ids to sequences of one length."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import compress
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, IterableDataset, List, Value
from transformers import PreTrainedTokenizerBase

from hf_alignmlm.data.formats import Corpus, code_digest
from hf_alignmlm.data.tokenizer import reserved_ids

# The number of a sequence's language; -k is a pair: the source's sentences in the first half, and
# what they are in language k in the second.
ORIGINAL, DERIVED, PAIR = 0, 1, -1

PACKED = Features({"input_ids": List(Value("int32")), "language": Value("int8")})
# Sentences packed together; a sequence never spans two of these groups.
PACKING_BATCH = 10_000
STREAM_BATCH = 100


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


@dataclass
class _Packer:
    """Makes sequences of a batch of sentences. The digest keeps a cache from old code's rows."""

    languages: Mapping[str, int]
    length: int
    isolate: bool
    pair_rate: float
    seed: int
    cls: int
    sep: int
    pad: int
    digest: str = field(default_factory=code_digest)

    def __call__(self, batch: pa.Table) -> pa.Table:
        arrange = self.isolated if self.isolate else self.run_on
        rows = {n: arrange(_lists(batch[name])) for name, n in self.languages.items()}
        if self.pair_rate > 0:
            chosen = _uniform(self.seed, batch["index"].to_numpy()) < self.pair_rate
            columns = (_lists(batch[name]) for name in ("original", "derived", "pieces", "order"))
            rows[PAIR] = self.pairs(compress(zip(*columns, strict=True), chosen))
        sequences = [sequence for group in rows.values() for sequence in group]
        ends = np.cumsum([0, *map(len, sequences)], dtype=np.int32)
        flat = np.concatenate(sequences or [np.zeros(0)]).astype(np.int32)
        kinds = [kind for kind, group in rows.items() for _ in group]
        ids = pa.ListArray.from_arrays(ends, flat)
        return pa.table({"input_ids": ids, "language": kinds}, schema=PACKED.arrow_schema)

    def of_stream(self, batch: dict[str, Any], features: Features) -> dict[str, Any]:
        return self(pa.table(batch, schema=features.arrow_schema)).to_pydict()

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
        sequences: list[list[Any]] = []
        with_room: list[list[int]] = [[] for _ in range(self.length + 1)]
        for part in sorted(parts, key=len, reverse=True):
            size = len(part) + 2
            free = next((n for n in range(size, self.length) if with_room[n]), self.length)
            if free == self.length:
                sequences.append([])
            place = with_room[free].pop() if free < self.length else len(sequences) - 1
            sequences[place] += [[self.cls], part, [self.sep]]
            with_room[free - size].append(place)
        return [np.concatenate(sequence) for sequence in sequences]

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


def pack(
    tokenized: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_length: int,
    languages: Mapping[str, int] = MappingProxyType({"original": ORIGINAL, "derived": DERIVED}),
    isolate_sentences: bool = False,
    pair_rate: float = 0.0,
    seed: int = 0,
    name: str = "corpus",
) -> Corpus:
    """Pack tokenized sentences into sequences of `max_seq_length` tokens.

    Rows are those of `encoding.TOKENIZED` or of `natural.IDS`; `languages` says which columns hold
    sentences, and the number of the language in each. Sentences
    run on end to end or, where they are not to see each other, stay whole and are dealt to where
    they fit. With a `pair_rate`, that share of the sentences also goes into
    pairs. One process packs, so that the result does not depend on how many there are. Rows are
    `PACKED`.
    """
    if max_seq_length < 8:
        raise ValueError(f"max_seq_length must be at least 8, not {max_seq_length}")
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    packer = _Packer(dict(languages), max_seq_length, isolate_sentences, pair_rate, seed, *special)
    options: dict[str, Any] = {"batched": True, "batch_size": PACKING_BATCH, "features": PACKED}
    options["remove_columns"] = list(tokenized.features)
    if isinstance(tokenized, IterableDataset):
        features = tokenized.features
        return tokenized.map(packer.of_stream, fn_kwargs={"features": features}, **options)
    packed = tokenized.with_format("arrow").map(packer, desc=f"Packing {name}", **options)
    return packed.with_format("numpy")


def packing_report(
    train: Dataset,
    evaluation: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
) -> dict[str, float]:
    """The share of padding in percent, and each language's word-frequency baseline in nats.

    The baseline is the loss of predicting every evaluation token by its frequency in the training
    text of its language (plus one): what a masked LM that knows nothing of context would reach. The
    languages of `evaluation` are numbered as they come.
    """
    # The row of a pair, -k, is counted from the end.
    languages = max(len(evaluation), 2)
    counts = np.zeros((2 * languages, len(tokenizer)), np.int64)
    for batch in train.with_format("arrow").iter(PACKING_BATCH):
        lists = batch["input_ids"].combine_chunks()
        kinds = np.repeat(batch["language"].to_numpy(), lists.value_lengths().to_numpy())
        for kind in np.unique(kinds):
            tokens = lists.flatten().to_numpy()[kinds == kind]
            counts[kind] += np.bincount(tokens, minlength=len(tokenizer))
    used = counts.sum() - counts[:, tokenizer.pad_token_id].sum()
    report = {"padding_share": float(100 * (1 - used / (len(train) * max_seq_length)))}
    ordinary = np.ones(len(tokenizer), dtype=bool)
    ordinary[reserved_ids(tokenizer)] = False
    for number, (name, rows) in enumerate(evaluation.items()):
        smoothed = counts[number] + 1
        surprise = -np.log(smoothed / smoothed[ordinary].sum())
        tokens = rows.with_format("arrow")[:]["input_ids"].combine_chunks().flatten().to_numpy()
        loss = surprise[tokens[ordinary[tokens]]].mean()
        report[f"eval_{name}_frequency_baseline_loss"] = float(loss)
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
        return {**self.packed[index], "example": index, "epoch": self.epoch}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows, epoch = self.packed[indices], self.epoch
        numbered = zip(rows["input_ids"], rows["language"], indices, strict=True)
        names = ("input_ids", "language", "example", "epoch")
        return [dict(zip(names, (*row, epoch), strict=True)) for row in numbered]


def _one_by_one(stream: IterableDataset) -> Iterator[dict[str, Any]]:
    # Iterated in a worker, a stream would give a part of its files, shuffled in another way.
    for batch in stream.iter(STREAM_BATCH):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


class EpochStream(_Epoch, torch.utils.data.IterableDataset):
    """`EpochDataset` for a stream: sequences are numbered as they come.

    One worker reads, whatever their number: masks and a resumed run do not depend on how many.
    """

    def __init__(self, packed: IterableDataset, *, shuffle_buffer: int = 0, seed: int = 0):
        super().__init__()
        # Shuffled as it is, a stream of several files would have the numbers of each from 0.
        whole = IterableDataset.from_generator(_one_by_one, gen_kwargs={"stream": packed})
        self.packed = whole.map(lambda row, index: {"example": index}, with_indices=True)
        if shuffle_buffer:
            self.packed = self.packed.shuffle(seed=seed, buffer_size=shuffle_buffer)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, epoch = torch.utils.data.get_worker_info(), self.epoch
        if worker and worker.id:
            return
        self.packed.set_epoch(epoch)  # reseeds the shuffle
        for row in _one_by_one(self.packed):
            yield row | {"input_ids": np.array(row["input_ids"]), "epoch": epoch}
