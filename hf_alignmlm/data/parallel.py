"""Parallel text: rows of a sentence and its translation, read, checked and as token ids."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_alignmlm.data.formats import (
    Corpus,
    Row,
    check_file,
    code_digest,
    errors_that_name,
    file_format,
    file_rows,
    file_stamp,
)
from hf_alignmlm.data.rows import as_text
from hf_alignmlm.data.sources import first_rows, held_out, map_tables
from hf_alignmlm.data.tokenizer import encode_texts
from hf_alignmlm.files import read_lines

logger = logging.get_logger(__name__)

# A row a pair: the ids of the source's sentence and of its translation, and the pair's index.
PAIRS = Features({"source": List(Value("int32")), "target": List(Value("int32"))})
PAIRS |= {"index": Value("int64")}
Texts = Sequence[str | None]


def translation(row: Row, names: Sequence[str], where: str) -> list[Any]:
    """What a row, or its `translation`, has under two names; ValueError where it lacks one."""
    values = row if set(names) <= row.keys() else row.get("translation", row)
    if values is None:
        return [None, None]
    if not isinstance(values, dict) or not set(names) <= values.keys():
        has = ", ".join(values) if isinstance(values, dict) else repr(values)
        raise ValueError(f"{where}: a text of {' and '.join(names)} is wanted, it has {has:.80}")
    return [values[name] for name in names]


def _columns(path: str) -> Iterator[Texts]:
    """The two columns of tab-separated lines; of four of Tatoeba, without the numbers."""
    for number, line in enumerate(read_lines(path), 1):
        columns = line.split("\t") if line.strip() else ["", ""]
        if len(columns) == 4 and columns[0].isdigit() and columns[2].isdigit():
            columns = columns[1::2]
        if len(columns) != 2:
            raise ValueError(
                f"{path}, line {number}: {len(columns)} column(s), where a sentence, a tab and its "
                "translation are wanted; of two aligned files name both"
            )
        yield columns


def _aligned(*paths: str) -> Iterator[Texts]:
    for number, texts in enumerate(zip_longest(*map(read_lines, paths)), 1):
        if None in texts:
            counts = [sum(1 for _ in read_lines(path)) for path in paths]
            raise ValueError(
                f"{paths[0]} has {counts[0]} lines and {paths[1]} {counts[1]}: a line of the one "
                "must be the translation of the same line of the other"
            )
        if number == 1 and "\t" in texts[0] and "\t" in texts[1]:
            raise ValueError(f"{', '.join(paths)} have tabs: call files of two columns .tsv")
        yield texts


def _rows(source: Any, names: tuple[str, str], name: str, key: Any) -> Iterator[Row]:
    """The rows of files or of a data set; `key` is for the cache alone."""

    def texts(rows: Any, name: str) -> Iterator[Texts]:
        for number, row in enumerate(rows, 1):
            where = f"{name}, row {number}"
            yield [as_text(text, where) for text in translation(row, names, where)]

    def of_file(path: str) -> Iterator[Texts]:
        kind = file_format(path)
        header = next(read_lines(path)).split("\t") if kind == "tsv" else ()
        if kind == "text" or (header and not set(names) <= set(header)):
            return _columns(path)
        return texts(file_rows(path), path)

    if isinstance(source, Dataset):
        parts = [texts(source, name)]
    elif len(source) == 2 and {*map(file_format, source)} == {"text"}:
        parts = [_aligned(*source)]
    else:
        parts = list(map(of_file, source))
    for part in parts:
        yield from (dict(zip(names, pair, strict=True)) for pair in part)


def read_parallel(
    pair: str,
    files: Sequence[str] = (),
    *,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    split: str = "train",
) -> Dataset:
    """The sentences of a pair of languages (`en-fr`) from files or the Hub; a column a language.

    A file has two columns parted by a tab, the first language first (or Tatoeba's four: number,
    text, number, text), or rows of any other format with the texts under the languages' names, as
    they are or in a `translation`. Of two text files, line i is a translation of line i. Pairs
    with an empty side are skipped and counted.

    Raises ValueError, which names file and row, for what is no pair of texts.
    """
    names, source = pair.split("-"), ", ".join(files) or str(dataset_name)
    if len(set(names)) != 2:
        raise ValueError(f"{source}: {pair!r} is no pair of languages: call it as en-fr")
    for path in files:
        check_file(path)
    features = Features({name: Value("string") for name in names})
    with errors_that_name(source):
        rows: Any = tuple(files)
        if dataset_name:
            rows = datasets.load_dataset(dataset_name, dataset_config_name, split=split)
        key = tuple(map(file_stamp, files)), code_digest()
        options = {"source": rows, "names": tuple(names), "name": source, "key": key}
        found = Dataset.from_generator(_rows, gen_kwargs=options, features=features)
    trimmed = (pc.utf8_trim_whitespace(found.data.column(name)) for name in names)
    filled = pc.and_(*(pc.greater(pc.utf8_length(text), 0) for text in trimmed))
    usable = np.flatnonzero(pc.fill_null(filled, False).to_numpy())
    if not len(usable):
        raise ValueError(f"{source}: no row has a text on both sides of {pair}")
    if skipped := len(found) - len(usable):
        logger.warning("%s: skipped %d pair(s) with an empty side", source, skipped)
    return found.select(usable)


def load_parallel(
    pair: str,
    files: Sequence[str] = (),
    *,
    validation_split_percentage: int = 5,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    **source: Any,
) -> tuple[Corpus, Corpus]:
    """`read_parallel` in two: the last part, of so many percent, is to validate on."""
    rows = read_parallel(pair, files, **source)
    train, validation = held_out(rows, validation_split_percentage, None, pair)
    return first_rows(train, max_train_samples), first_rows(validation, max_eval_samples)


def _encode(
    batch: pa.Table, indices: list[int], *, tokenizer: str, names: Sequence[str]
) -> pa.Table:
    texts = (batch[name].to_pylist() for name in names)
    columns = [pa.array(encode_texts(tokenizer, side), pa.list_(pa.int32())) for side in texts]
    table = pa.table([*columns, pa.array(indices, pa.int64())], schema=PAIRS.arrow_schema)
    return table.filter(pc.and_(*(pc.greater(pc.list_value_length(c), 0) for c in columns)))


def tokenize_pairs(
    pairs: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    *,
    num_proc: int | None = None,
    name: str = "the parallel text",
) -> Dataset:
    """The ids of both sentences of each pair, without special tokens: a `PAIRS` row a pair.

    `names` are the columns of the source language and of the other one. A pair of which a side has
    no token is left out and counted; where none is left, that is a ValueError.
    """
    backend = tokenizer.backend_tokenizer.to_str()
    options: dict[str, Any] = {"desc": f"Tokenizing {name}", "num_proc": num_proc}
    found: Any = map_tables(pairs, _encode, PAIRS, tokenizer=backend, names=list(names), **options)
    if not len(found):
        raise ValueError(f"{name} has no pair of which both sides have a token")
    if skipped := len(pairs) - len(found):
        logger.warning("%s: skipped %d pair(s) of which a side has no token", name, skipped)
    return found
