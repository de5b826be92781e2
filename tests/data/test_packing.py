"""A stream's sequences do not depend on how many workers read it."""

import pytest
from datasets import IterableDataset
from torch.utils.data import DataLoader

from hf_alignmlm.data.packing import EpochStream


def sequences(shards):
    for shard in shards:
        yield from ({"input_ids": [shard, i], "language": 0} for i in range(7))


@pytest.mark.parametrize("buffer", [0, 10])
def test_a_streams_rows_are_the_same_for_any_number_of_workers(buffer):
    stream = IterableDataset.from_generator(sequences, gen_kwargs={"shards": [0, 1, 2]})
    rows = EpochStream(stream, shuffle_buffer=buffer, seed=1)
    rows.set_epoch(1)
    read = []
    for workers in (0, 1, 2):
        loader = DataLoader(rows, 4, num_workers=workers, collate_fn=list)
        read.append([[(r["example"], *r["input_ids"].tolist()) for r in b] for b in loader])
    assert read[0] == read[1] == read[2]
    rows = [row for batch in read[0] for row in batch]
    assert sorted(example for example, _, _ in rows) == list(range(21))
    assert sorted(ids for _, *ids in rows) == [[shard, i] for shard in range(3) for i in range(7)]
