"""Any source of original text (files, the Hub, the embedded corpus) to rows of text or words."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, Value
from transformers.utils import logging

from hf_alignmlm.data import rows
from hf_alignmlm.data.conllu import tree_columns
from hf_alignmlm.data.formats import Corpus, code_digest, corpus_of, errors_that_name, read_file
from hf_alignmlm.data.rows import TEXT_COLUMNS, TREES, WORD_COLUMNS, row_text

logger = logging.get_logger(__name__)

EMBEDDED_SENTENCES = {"train": 60_000, "validation": 2_000, "test": 2_000}
STREAM_VALIDATION_ROWS = 1_000
# Characters that a tokenizer of several languages is trained on, at most.
SAMPLE_CHARACTERS = 100_000_000


def embedded_corpus(
    split: str = "train", *, count: int | None = None, seed: int = 0, streaming: bool = False
) -> Corpus:
    """The embedded grammar's sentences as rows of words and trees; any `count` of them."""
    count = count or EMBEDDED_SENTENCES[split]
    return corpus_of("embedded", "", None, streaming, split=split, count=count, seed=seed)


def column_names(corpus: Corpus) -> list[str]:
    """The names of a corpus' columns; for those of a stream its first row is read."""
    return corpus.column_names or list(next(iter(corpus), {}))


def map_tables(
    corpus: Corpus,
    make: Callable[..., pa.Table],
    features: Features,
    *,
    batch_size: int = 1000,
    num_proc: int | None = None,
    desc: str | None = None,
    **arguments: Any,
) -> Corpus:
    """A corpus of what `make(table, row numbers, **arguments)` gives for each batch of another.

    `num_proc` and `desc` are for corpora that are no streams.
    """
    # The digest keeps a cache from what older code made.
    given = {"make": make, "arguments": arguments, "digest": code_digest()}
    options: dict[str, Any] = {"batched": True, "batch_size": batch_size, "with_indices": True}
    options |= {"features": features, "remove_columns": column_names(corpus)}
    if isinstance(corpus, IterableDataset):
        given["schema"] = corpus.features and corpus.features.arrow_schema
        return corpus.map(_make_of_stream, fn_kwargs=given, **options)
    options |= {"num_proc": num_proc, "desc": desc, "fn_kwargs": given}
    return corpus.with_format("arrow").map(_make, **options).with_format(None)


def _make(table: pa.Table, indices: list[int], *, make: Any, arguments: Any, digest: str) -> Any:
    return make(table, indices, **arguments)


def _make_of_stream(batch: Any, indices: list[int], *, schema: Any, **given: Any) -> Any:
    # A stream takes no tables.
    return _make(pa.table(batch, schema=schema), indices, **given).to_pydict()


def _checked(corpus: Corpus, source: str) -> Corpus:
    """The columns that are used, by their own names and types: words (and trees), or text.

    Nulls stay, as rows without a sentence, which a warning counts (of a stream it names the first);
    ValueError names the first row of any other kind.
    """
    names = column_names(corpus)
    known = [name for name in (*WORD_COLUMNS, *TEXT_COLUMNS) if name in names]
    if not known:
        raise ValueError(
            f"{source} has the columns {', '.join(names)}: name the text's column "
            f"{' or '.join(TEXT_COLUMNS)}, or that of lists of words {' or '.join(WORD_COLUMNS)}"
        )
    words = known[0] in WORD_COLUMNS
    used = {"words" if words else "text": known[0]}
    used |= tree_columns(names) if words else {}
    types = Features({name: TREES.get(name, Value("string")) for name in used})
    check = rows.as_words if words else rows.as_text
    nulls: list[int] = []

    def checked_row(row: dict[str, Any], index: int) -> dict[str, Any]:
        where = f"{source}, row {index + 1}"
        if check(row.get(known[0]), where) is None and not nulls:
            nulls.append(index)
            logger.warning("%s has no %s; such rows of a stream are skipped", where, known[0])
        values = {target: row.get(name) for target, name in used.items()}
        with errors_that_name(where):
            for field in list(types.arrow_schema)[1:]:
                pa.array([values[field.name]]).cast(field.type)
        return values

    if isinstance(corpus, IterableDataset):
        stream = corpus.map(checked_row, with_indices=True, remove_columns=names, features=types)
        return stream.select_columns(list(types))
    column = corpus.data.column(known[0])
    # Mostly its type tells that a column has nothing else.
    texts_only = column.type in (pa.string(), pa.large_string())
    words_only = column.type == pa.list_(pa.string()) and not pc.list_flatten(column).null_count
    for number, value in enumerate(() if (words_only if words else texts_only) else column, 1):
        check(value.as_py(), f"{source}, row {number}")
    if column.null_count == len(column):
        raise ValueError(f"{source}: every {known[0]} is null: there is nothing to read")
    if column.null_count:
        logger.warning("%s: skipped %d row(s) without %s", source, column.null_count, known[0])
    corpus = corpus.select_columns(list(used.values()))
    corpus = corpus.rename_columns({name: target for target, name in used.items()})
    with errors_that_name(source):
        return corpus if corpus.features == types else corpus.cast(types)


def read_corpus(files: Sequence[str], *, streaming: bool = False) -> Corpus:
    """Files of any format of `formats.FORMATS`, compressed or not, as one corpus.

    Rows hold `text` (a line or paragraph) or `words` (a sentence, with `upos`, `heads` and
    `deprels` where the file has trees).
    """
    corpora = [_checked(read_file(path, streaming=streaming), path) for path in files]
    return datasets.concatenate_datasets(corpora) if len(corpora) > 1 else corpora[0]


def hub_corpus(
    name: str, config: str | None = None, *, split: str = "train", streaming: bool = False
) -> Corpus:
    """A corpus of the Hub, or of a local folder of parquet files, by its name."""
    with errors_that_name(name):
        corpus = datasets.load_dataset(name, config, split=split, streaming=streaming)
        return _checked(corpus, name)


def first_rows(corpus: Corpus, count: int | None) -> Corpus:
    """The first `count` rows of a corpus; all of them for None."""
    if count is None:
        return corpus
    if isinstance(corpus, IterableDataset):
        return corpus.take(count)
    return corpus.select(range(min(count, len(corpus))))


def held_out(
    train: Corpus, percentage: int, max_rows: int | None, source: str
) -> tuple[Corpus, Corpus]:
    """A corpus in two: its last part is for validation; of a stream, its first rows are."""
    if isinstance(train, IterableDataset):
        count = max_rows or STREAM_VALIDATION_ROWS
        return train.skip(count), train.take(count)
    if len(train) < 2:
        raise ValueError(
            f"{source} has one row of text, of which none is left to train on: add rows or, for a "
            "corpus, give a --validation_file"
        )
    # Nothing is drawn. The seed is there because the cache would else take each split for another.
    parts = train.train_test_split(percentage / 100, shuffle=False, seed=0)
    return parts["train"], parts["test"]


def load_splits(
    train_file: Sequence[str] = (),
    validation_file: Sequence[str] = (),
    *,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    streaming: bool = False,
    validation_split_percentage: int = 5,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
) -> tuple[Corpus, Corpus]:
    """Training and validation corpus, from files, the Hub or, with neither, the grammar.

    Where there is no validation set, the last part of the training corpus becomes one (of a stream,
    the first rows).
    """
    if train_file and dataset_name:
        raise ValueError("give --train_file or --dataset_name, not both")
    percentage = validation_split_percentage
    if not 0 < percentage < 100:
        raise ValueError(
            f"validation_split_percentage must lie between 0 and 100, not {percentage}"
        )
    validation: Corpus | None = None
    if train_file:
        train = read_corpus(train_file, streaming=streaming)
        validation = read_corpus(validation_file, streaming=streaming) if validation_file else None
    elif dataset_name:
        hub = dataset_name, dataset_config_name
        train = hub_corpus(*hub, streaming=streaming)
        if "validation" in datasets.get_dataset_split_names(*hub):
            validation = hub_corpus(*hub, split="validation", streaming=streaming)
    else:
        train = embedded_corpus("train", streaming=streaming)
        validation = embedded_corpus("validation", streaming=streaming)
    if validation is None:
        train, validation = held_out(
            train, percentage, max_eval_samples, ", ".join(train_file) or str(dataset_name)
        )
    return first_rows(train, max_train_samples), first_rows(validation, max_eval_samples)


def join(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus after the other; streams take turns, so that every part of them has both.

    Either way each row comes once: a longer stream goes on alone.
    """
    if all(isinstance(corpus, Dataset) for corpus in corpora):
        return datasets.concatenate_datasets(list(corpora))
    streams = [c.to_iterable_dataset() if isinstance(c, Dataset) else c for c in corpora]
    return datasets.interleave_datasets(
        streams, stopping_strategy="all_exhausted_without_replacement"
    )


def texts(corpora: Sequence[Corpus], *, limit: int | None = None) -> Iterator[str]:
    """The corpora as plain texts, to train a tokenizer on; of a stream, `limit` rows at most."""
    for corpus in corpora:
        for row in first_rows(corpus, limit) if isinstance(corpus, IterableDataset) else corpus:
            yield row_text(row)


def balanced_texts(
    corpora: Mapping[str, Corpus], *, alpha: float = 0.7, limit: int | None = None, seed: int = 0
) -> Iterator[str]:
    """Texts of several languages, to train a tokenizer on: a sample in which small ones count more.

    A language with a share p of all characters has a share of about p^alpha / Σ p^alpha (XLM, arXiv
    1901.07291, section 3.1): texts of a small one come several times, of a large one not all come.
    Each text is drawn by itself, from `seed` and the language's name. Of a stream, `limit` rows.
    """
    sizes = {name: sum(map(len, texts([corpus], limit=limit))) for name, corpus in corpora.items()}
    whole = sum(sizes.values())
    weights = {name: (size / whole) ** alpha for name, size in sizes.items() if size}
    sample = min(whole, SAMPLE_CHARACTERS) / sum(weights.values())
    for name, weight in weights.items():
        draw, times = random.Random(f"{seed}/{name}"), sample * weight / sizes[name]
        for text in texts([corpora[name]], limit=limit):
            # 2.3 times is twice, and once more for 30 % of the texts.
            yield from [text] * int(times + draw.random())
