"""Any source of original text to rows of sentences."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pyarrow as pa
import sentencex
from datasets import (
    Dataset,
    Features,
    IterableDataset,
    List,
    Value,
    concatenate_datasets,
    get_dataset_split_names,
    interleave_datasets,
    load_dataset,
)
from datasets.exceptions import DatasetGenerationError
from transformers.utils import logging

from hf_alignmlm import minienglish
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.files import open_file

logger = logging.get_logger(__name__)


Corpus: TypeAlias = Dataset | IterableDataset


FORMATS = {
    ".conllu": "conllu",
    ".conll": "conllu",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".txt": "text",
}


TEXT_COLUMNS = ("text", "sentence", "original")


WORD_COLUMNS = ("words", "tokens")


TREE_COLUMNS = ("upos", "heads", "deprels")


EMBEDDED_SENTENCES = {"train": 60_000, "validation": 2_000, "test": 2_000}


STREAM_VALIDATION_ROWS = 1_000


# Sentences of one line are numbered from here up, so that a sentence's index, which seeds its
# permutation, does not depend on how other lines split.
SENTENCES_PER_LINE = 4096


# Bytes of a file that are looked at before it is read.
SAMPLE = 1 << 20


_WORDS, _NUMBERS = List(Value("string")), List(Value("int32"))


# Of one type wherever they come from, or corpora with trees could not be joined.
TREES = Features({"words": _WORDS, "upos": _WORDS, "heads": _NUMBERS, "deprels": _WORDS})


def file_format(path: str | Path) -> str:
    """The format that a file's name tells, gzip or not; a name without a known ending is text."""
    suffixes = [s for s in Path(path).suffixes if s not in {".gz", ".gzip"}]
    return FORMATS.get(suffixes[-1].lower() if suffixes else ".txt", "text")


def check_file(path: str | Path, *, whole: bool = False) -> None:
    """Raise, in one line, for a file that is missing, a folder, empty or not UTF-8.

    Contents are read up to the first MiB, or to the end of the file if `whole`.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, check the path")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the files in it")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    if file_format(path) == "parquet":
        return
    blank, size, number = True, 0, 1
    try:
        with open_file(path, "rb") as stream:
            for line in stream:
                line.decode("utf-8")
                blank, size = blank and line.isspace(), size + len(line)
                number += 1
                if size > SAMPLE and not whole:
                    break
    except UnicodeDecodeError:
        raise ValueError(f"{path}, line {number}, is not UTF-8 text: convert it first") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ValueError(f"{path} is a damaged gzip file") from None
    if blank:
        raise ValueError(f"{path} is empty: it has only white space")


def _rows(sentences: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for sentence in sentences:
        yield {name: list(getattr(sentence, name)) for name in ("words", *TREE_COLUMNS)}


def _embedded(split: str, count: int, seed: int, digest: str) -> Iterator[dict[str, Any]]:
    yield from _rows(minienglish.sentences(count, split=split, seed=seed))


def embedded_corpus(
    split: str = "train", *, count: int | None = None, seed: int = 0, streaming: bool = False
) -> Corpus:
    """The grammar's sentences as rows of words and trees; any amount."""
    count = count or EMBEDDED_SENTENCES[split]
    arguments = {"split": split, "count": count, "seed": seed, "digest": code_digest()}
    make = IterableDataset if streaming else Dataset
    return make.from_generator(_embedded, gen_kwargs=arguments, features=TREES)


def _conllu(path: str, stamp: tuple[int, int], digest: str) -> Iterator[dict[str, Any]]:
    # The stamp changes with the file, the digest with the code, and with them the cache's key.
    yield from _rows(read_conllu(path, trees=False))


def _columns(corpus: Corpus) -> list[str]:
    """The names of a corpus' columns; for those of a stream its first row is read."""
    return corpus.column_names or list(next(iter(corpus)))


def read_file(path: str, *, streaming: bool = False) -> Corpus:
    """The rows of a file by its format, all columns; what cannot be read is a one-line error."""
    kind = file_format(path)
    # JSON's reader takes any bytes for text, and fails at the row when it is used.
    check_file(path, whole=kind == "json" and not streaming)
    try:
        if kind == "conllu":
            stamp = (Path(path).stat().st_size, Path(path).stat().st_mtime_ns)
            arguments = {"path": path, "stamp": stamp, "digest": code_digest()}
            make = IterableDataset if streaming else Dataset
            return make.from_generator(_conllu, gen_kwargs=arguments, features=TREES)
        corpus = load_dataset(kind, data_files=path, split="train", streaming=streaming)
        _columns(corpus)
        return corpus
    except (DatasetGenerationError, pa.ArrowInvalid, EOFError, zlib.error) as error:
        cause = error.__cause__ or error
        if isinstance(cause, UnicodeDecodeError):
            check_file(path, whole=True)
        told = str(cause)
        if path not in told:
            told = f"{path} cannot be read as {kind}: {told}"
        raise ValueError(told) from None


def _usable_columns(corpus: Corpus, source: str) -> Corpus:
    columns = _columns(corpus)
    for name in WORD_COLUMNS:
        if name in columns:
            corpus = corpus if name == "words" else corpus.rename_column(name, "words")
            trees = TREE_COLUMNS if set(TREE_COLUMNS) <= set(columns) else ()
            corpus = corpus.select_columns(["words", *trees])
            wanted = Features({name: TREES[name] for name in ("words", *trees)})
            return corpus if corpus.features == wanted else corpus.cast(wanted)
    for name in TEXT_COLUMNS:
        if name in columns:
            corpus = corpus if name == "text" else corpus.rename_column(name, "text")
            return corpus.select_columns(["text"])
    raise ValueError(
        f"{source} has the columns {', '.join(columns)}: name the text's column "
        f"{' or '.join(TEXT_COLUMNS)}, or that of lists of words {' or '.join(WORD_COLUMNS)}"
    )


def read_corpus(files: Sequence[str], *, streaming: bool = False) -> Corpus:
    """Text, JSON lines, parquet and CoNLL-U files, gzip or not, as one corpus.

    Rows hold `text` (a line or paragraph) or `words` (a sentence, with `upos`, `heads` and
    `deprels` where the file has trees).
    """
    corpora = [_usable_columns(read_file(path, streaming=streaming), path) for path in files]
    return concatenate_datasets(corpora) if len(corpora) > 1 else corpora[0]


def hub_corpus(
    name: str, config: str | None = None, *, split: str = "train", streaming: bool = False
) -> Corpus:
    """A corpus of the Hub, or of a local folder of parquet files, by its name."""
    corpus = load_dataset(name, config, split=split, streaming=streaming)
    return _usable_columns(corpus, name)


def _first(corpus: Corpus, count: int | None) -> Corpus:
    if count is None:
        return corpus
    if isinstance(corpus, IterableDataset):
        return corpus.take(count)
    return corpus.select(range(min(count, len(corpus))))


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
    if not 0 < validation_split_percentage < 100:
        raise ValueError(
            f"validation_split_percentage must lie between 0 and 100, "
            f"not {validation_split_percentage}"
        )
    validation: Corpus | None = None
    if train_file:
        train = read_corpus(train_file, streaming=streaming)
        validation = read_corpus(validation_file, streaming=streaming) if validation_file else None
    elif dataset_name:
        train = hub_corpus(dataset_name, dataset_config_name, streaming=streaming)
        if "validation" in get_dataset_split_names(dataset_name, dataset_config_name):
            validation = hub_corpus(
                dataset_name, dataset_config_name, split="validation", streaming=streaming
            )
    else:
        train = embedded_corpus("train", streaming=streaming)
        validation = embedded_corpus("validation", streaming=streaming)
    if validation is None and isinstance(train, Dataset):
        if len(train) < 2:
            raise ValueError("one row of text gives no validation set: give a --validation_file")
        # Nothing is drawn, but without a seed the cache would take each split for another.
        parts = train.train_test_split(validation_split_percentage / 100, shuffle=False, seed=0)
        train, validation = parts["train"], parts["test"]
    elif validation is None:
        rows = max_eval_samples or STREAM_VALIDATION_ROWS
        train, validation = train.skip(rows), train.take(rows)
    return _first(train, max_train_samples), _first(validation, max_eval_samples)


def join(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus after the other; streams take turns, so that every part of them has both.

    Either way each row comes once: a longer stream goes on alone.
    """
    streams = [corpus for corpus in corpora if isinstance(corpus, IterableDataset)]
    if not streams:
        return concatenate_datasets(list(corpora))
    return interleave_datasets(streams, stopping_strategy="all_exhausted_without_replacement")


def row_text(row: dict[str, Any]) -> str:
    """A row as plain text, whether it holds text or words."""
    return row.get("text") or " ".join(row.get("words") or [])


def row_tree(row: dict[str, Any], prefix: str = "") -> Any:
    """The tree in a row's columns, their names behind `prefix`; None where it has none, or part."""
    tree = {name: row.get(prefix + name) for name in TREE_COLUMNS}
    whole = all(values is not None and None not in values for values in tree.values())
    return SimpleNamespace(**tree) if whole else None


def texts(corpora: Sequence[Corpus], *, limit: int | None = None) -> Iterator[str]:
    """The corpora as plain texts, to train a tokenizer on; of a stream, `limit` rows at most."""
    for corpus in corpora:
        rows = _first(corpus, limit) if isinstance(corpus, IterableDataset) else corpus
        for row in rows:
            yield row_text(row)


def sentences(
    row: dict[str, Any],
    index: int,
    split: Callable[[str], list[str]] | None = None,
    language: str = "en",
) -> Iterator[tuple[Any, Any, int]]:
    """The sentences of one row: words, tree (or None) and the index that seeds their order.

    `split` gives a text's words; without it, the sentences of a text are texts. `language` (ISO
    639) is that of the rules for sentences' ends.
    """
    if row.get("words") is not None:
        yield row["words"], row_tree(row), index * SENTENCES_PER_LINE
    elif text := row_text(row).strip():
        for number, sentence in enumerate(sentencex.segment(language, text)):
            if words := split(sentence) if split else sentence:
                yield words, None, index * SENTENCES_PER_LINE + number


@lru_cache(maxsize=4)
def code_digest() -> str:
    """A digest of the code that makes rows, so that changed code never returns cached data."""
    here = Path(__file__).parent.parent
    rooms = ("languages", "minienglish", "data", "objectives", "tasks", "hub")
    found = [path for room in rooms for path in sorted((here / room).rglob("*.py"))]
    found += [here / "minienglish/grammar.json", *sorted(here.glob("languages/*/*.json"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in found)).hexdigest()[:16]


if __name__ == "__main__":
    # The command wires rooms, as the scripts do.
    from hf_alignmlm.builders import main

    main()
