"""Corpora of token ids to sequences of one length, numbered by epoch and example."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_alignmlm.data.formats import Corpus
from hf_alignmlm.data.packer import DERIVED, ORIGINAL, PACKED, PAIR, PAIR_COLUMNS, Packer
from hf_alignmlm.data.sources import map_tables
from hf_alignmlm.data.tokenizer import reserved_ids

logger = logging.get_logger(__name__)

# Sentences packed together; a sequence never spans two of these groups.
PACKING_BATCH = 10_000
STREAM_BATCH = 100


def pack(
    tokenized: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_length: int,
    languages: Mapping[str, int] = MappingProxyType({"original": ORIGINAL, "derived": DERIVED}),
    isolate_sentences: bool = False,
    pair_rate: float = 0.0,
    pair: int = PAIR,
    seed: int = 0,
    name: str = "corpus",
) -> Corpus:
    """Pack tokenized sentences into sequences of `max_seq_length` tokens.

    Rows are those of `encoding.TOKENIZED`, `natural.IDS` or `parallel.PAIRS`; `languages` says
    which columns hold sentences, and the number of the language in each. Sentences run on end to
    end or, where they are not to see each other, stay whole and are dealt to where they fit. With a
    `pair_rate`, that share of the sentences also goes into pairs, of the number `pair`. One process
    packs, so that the result does not depend on how many there are. Rows are `PACKED`.
    """
    if max_seq_length < 8:
        raise ValueError(f"max_seq_length must be at least 8, not {max_seq_length}")
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    sizes = max_seq_length, isolate_sentences, pair_rate, seed
    packer = Packer(dict(languages), *sizes, *special, pair)
    if pair_rate and isinstance(tokenized, Dataset) and "target" in tokenized.features:
        _warn_of_cut(tokenized, max_seq_length // 2 - 2, name)
    options: dict[str, Any] = {"batch_size": PACKING_BATCH, "desc": f"Packing {name}"}
    packed = map_tables(tokenized, packer, PACKED, **options)
    return packed.with_format("numpy") if isinstance(packed, Dataset) else packed


def _warn_of_cut(pairs: Dataset, longest: int, name: str) -> None:
    columns = pairs.with_format("arrow")[:]
    sizes = (pc.list_value_length(columns[side]) for side in PAIR_COLUMNS)
    if cut := pc.sum(pc.greater(pc.max_element_wise(*sizes), longest)).as_py():
        logger.warning(
            "%s: of %d pairs %d do not fit half a sequence (%d tokens) and are cut: a larger "
            "--max_seq_length keeps more",
            *(name, len(pairs), cut, longest),
        )


def _tokens(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of sequences, end to end, and before them the language of each."""
    lists = rows["input_ids"].combine_chunks()
    kinds = np.repeat(rows["language"].to_numpy(), lists.value_lengths().to_numpy())
    return kinds, lists.flatten().to_numpy()


def packing_report(
    train: Dataset,
    evaluation: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
) -> dict[str, float]:
    """The share of padding in percent, and each set's word-frequency baseline in nats.

    The baseline is the loss of predicting every evaluation token by its frequency in the training
    text of its language (plus one), or in the pairs, of a pair: what a masked LM that knows nothing
    of context would reach.
    """
    # The row of a pair, -k, is counted from the end.
    languages = max(len(evaluation), 2)
    counts = np.zeros((2 * languages, len(tokenizer)), np.int64)
    for batch in train.with_format("arrow").iter(PACKING_BATCH):
        kinds, tokens = _tokens(batch)
        for kind in np.unique(kinds):
            counts[kind] += np.bincount(tokens[kinds == kind], minlength=len(tokenizer))
    used = counts.sum() - counts[:, tokenizer.pad_token_id].sum()
    report = {"padding_share": float(100 * (1 - used / (len(train) * max_seq_length)))}
    ordinary = np.ones(len(tokenizer), dtype=bool)
    ordinary[reserved_ids(tokenizer)] = False
    smoothed = counts + 1
    surprise = -np.log(smoothed / smoothed[:, ordinary].sum(1, keepdims=True))
    for name, rows in evaluation.items():
        kinds, tokens = _tokens(rows.with_format("arrow")[:])
        loss = surprise[kinds[ordinary[tokens]], tokens[ordinary[tokens]]].mean()
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
