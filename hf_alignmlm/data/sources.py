"""Any source of original text (files, the Hub, the embedded corpus) to rows of text or words."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import datasets
import pyarrow as pa
import sentencex
from datasets import Dataset, Features, IterableDataset, List, Value
from datasets.exceptions import DatasetGenerationError

from hf_alignmlm import minienglish
from hf_alignmlm.data.conllu import read_conllu, tree_columns
from hf_alignmlm.files import open_file

Corpus: TypeAlias = Dataset | IterableDataset

FORMATS = {".conllu": "conllu", ".conll": "conllu", ".json": "json", ".jsonl": "json"}
FORMATS |= {".parquet": "parquet", ".txt": "text"}

TEXT_COLUMNS = ("text", "sentence", "original")
WORD_COLUMNS = ("words", "tokens")
TREE_COLUMNS = ("upos", "heads", "deprels")
_WORDS, _NUMBERS = List(Value("string")), List(Value("int32"))
# Sentences with trees have these types from every source, so that their tables can be joined.
TREES = Features({"words": _WORDS, "upos": _WORDS, "heads": _NUMBERS, "deprels": _WORDS})

EMBEDDED_SENTENCES = {"train": 60_000, "validation": 2_000, "test": 2_000}
STREAM_VALIDATION_ROWS = 1_000
# Sentence s of line l has index l * 4096 + s. The index seeds the sentence's permutation, which so
# does not depend on how other lines split.
SENTENCES_PER_LINE = 4096
# How many bytes of a file are checked before it is read.
SAMPLE = 1 << 20


@lru_cache(maxsize=4)
def code_digest() -> str:
    """A digest of the code that makes rows: in a cache's key, it keeps old rows from new code."""
    here = Path(__file__).parent.parent
    rooms = ("languages", "minienglish", "data", "objectives", "tasks", "hub")
    files = [path for room in rooms for path in sorted((here / room).rglob("*.py"))]
    files += [here / "minienglish/grammar.json", *sorted(here.glob("languages/*/*.json"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def file_format(path: str | Path) -> str:
    """The format by a file's ending, gzip or not; a file without a known ending is text."""
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


def _tree_rows(source: str | None, arguments: dict[str, Any], key: Any) -> Iterator[dict[str, Any]]:
    """Sentences of a CoNLL-U file, or of the embedded corpus; `key` is for the cache alone."""
    make = partial(read_conllu, source) if source else minienglish.sentences
    for sentence in make(**arguments):
        yield {name: list(getattr(sentence, name)) for name in TREES}


def _from_trees(source: str | None, streaming: bool, stamp: Any, **arguments: Any) -> Corpus:
    # `datasets` caches rows by these arguments. The stamp changes with the file, the digest with
    # the code.
    values = {"source": source, "arguments": arguments, "key": (stamp, code_digest())}
    make = IterableDataset if streaming else Dataset
    return make.from_generator(_tree_rows, gen_kwargs=values, features=TREES)


def embedded_corpus(
    split: str = "train", *, count: int | None = None, seed: int = 0, streaming: bool = False
) -> Corpus:
    """The embedded grammar's sentences as rows of words and trees; any `count` of them."""
    count = count or EMBEDDED_SENTENCES[split]
    return _from_trees(None, streaming, None, split=split, count=count, seed=seed)


def column_names(corpus: Corpus) -> list[str]:
    """The names of a corpus' columns; for those of a stream its first row is read."""
    return corpus.column_names or list(next(iter(corpus)))


def read_file(path: str, *, streaming: bool = False) -> Corpus:
    """The rows of a file by its format, all columns; what cannot be read is a one-line error."""
    kind = file_format(path)
    # JSON's reader takes any bytes for text, and fails at the row when it is used.
    check_file(path, whole=kind == "json" and not streaming)
    try:
        if kind == "conllu":
            stamp = Path(path).stat().st_size, Path(path).stat().st_mtime_ns
            return _from_trees(path, streaming, stamp, trees=False)
        corpus = datasets.load_dataset(kind, data_files=path, split="train", streaming=streaming)
        column_names(corpus)
        return corpus
    except (DatasetGenerationError, pa.ArrowInvalid, EOFError, zlib.error) as error:
        cause = error.__cause__ or error
        if isinstance(cause, UnicodeDecodeError):
            check_file(path, whole=True)
        named = path in str(cause)
        raise ValueError(
            str(cause) if named else f"{path} cannot be read as {kind}: {cause}"
        ) from None


def _checked(corpus: Corpus, source: str) -> Corpus:
    """The columns that are used, by their own names and types: words (and trees), or text."""
    names = column_names(corpus)
    for target, aliases in (("words", WORD_COLUMNS), ("text", TEXT_COLUMNS)):
        name = next((alias for alias in aliases if alias in names), None)
        if name is None:
            continue
        used = {target: name} | (tree_columns(names) if target == "words" else {})
        corpus = corpus.select_columns(list(used.values()))
        renamed = {name: column for column, name in used.items() if name != column}
        corpus = corpus.rename_columns(renamed)
        if target == "words" and corpus.features != (
            types := Features({c: TREES[c] for c in used})
        ):
            corpus = corpus.cast(types)
        return corpus
    raise ValueError(
        f"{source} has the columns {', '.join(names)}: name the text's column "
        f"{' or '.join(TEXT_COLUMNS)}, or that of lists of words {' or '.join(WORD_COLUMNS)}"
    )


def read_corpus(files: Sequence[str], *, streaming: bool = False) -> Corpus:
    """Text, JSON lines, parquet and CoNLL-U files, gzip or not, as one corpus.

    Rows hold `text` (a line or paragraph) or `words` (a sentence, with `upos`, `heads` and
    `deprels` where the file has trees).
    """
    corpora = [_checked(read_file(path, streaming=streaming), path) for path in files]
    return datasets.concatenate_datasets(corpora) if len(corpora) > 1 else corpora[0]


def hub_corpus(
    name: str, config: str | None = None, *, split: str = "train", streaming: bool = False
) -> Corpus:
    """A corpus of the Hub, or of a local folder of parquet files, by its name."""
    return _checked(datasets.load_dataset(name, config, split=split, streaming=streaming), name)


def _first(corpus: Corpus, count: int | None) -> Corpus:
    if count is None:
        return corpus
    if isinstance(corpus, IterableDataset):
        return corpus.take(count)
    return corpus.select(range(min(count, len(corpus))))


def _held_out(train: Corpus, percentage: int, max_rows: int | None) -> tuple[Corpus, Corpus]:
    """A corpus in two: its last part is for validation; of a stream, its first rows are."""
    if isinstance(train, IterableDataset):
        rows = max_rows or STREAM_VALIDATION_ROWS
        return train.skip(rows), train.take(rows)
    if len(train) < 2:
        raise ValueError("one row of text gives no validation set: give a --validation_file")
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
        train, validation = _held_out(train, percentage, max_eval_samples)
    return _first(train, max_train_samples), _first(validation, max_eval_samples)


def join(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus after the other; streams take turns, so that every part of them has both.

    Either way each row comes once: a longer stream goes on alone.
    """
    streams = [corpus for corpus in corpora if isinstance(corpus, IterableDataset)]
    if not streams:
        return datasets.concatenate_datasets(list(corpora))
    return datasets.interleave_datasets(
        streams, stopping_strategy="all_exhausted_without_replacement"
    )


def row_text(row: dict[str, Any]) -> str:
    """A row as plain text, whether it holds text or words."""
    return row.get("text") or " ".join(row.get("words") or [])


def row_tree(row: dict[str, Any], prefix: str = "") -> Any:
    """The tree in a row's columns, their names behind `prefix`; None if one is missing or null."""
    tree = {column: row[name] for column, name in tree_columns(row, prefix).items()}
    complete = all(values is not None and None not in values for values in tree.values())
    return SimpleNamespace(**tree) if tree and complete else None


def texts(corpora: Sequence[Corpus], *, limit: int | None = None) -> Iterator[str]:
    """The corpora as plain texts, to train a tokenizer on; of a stream, `limit` rows at most."""
    for corpus in corpora:
        for row in _first(corpus, limit) if isinstance(corpus, IterableDataset) else corpus:
            yield row_text(row)


def sentences(
    row: dict[str, Any],
    index: int,
    split: Callable[[str], list[str]] | None = None,
    language: str = "en",
) -> Iterator[tuple[Any, Any, int]]:
    """The sentences of row number `index`: words, tree (or None) and the sentence's own index.

    `split` gives a text's words; without it, the sentences of a text are texts. `language` (ISO
    639) is that of the rules for sentences' ends.
    """
    if row.get("words") is not None:
        yield row["words"], row_tree(row), index * SENTENCES_PER_LINE
    elif text := row_text(row).strip():
        for number, sentence in enumerate(sentencex.segment(language, text)):
            if words := split(sentence) if split else sentence:
                yield words, None, index * SENTENCES_PER_LINE + number
