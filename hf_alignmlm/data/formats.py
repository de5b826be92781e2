"""A file of any format to rows, in bounded memory; what cannot be read is an error of one line."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset, List, Value
from datasets.exceptions import DatasetGenerationError

from hf_alignmlm import minienglish
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.data.rows import TEXT_COLUMNS, TREES
from hf_alignmlm.files import COMPRESSIONS, DAMAGED, LONGEST_LINE, open_file, read_lines

Corpus: TypeAlias = Dataset | IterableDataset
Row: TypeAlias = dict[str, Any]

FORMATS = {".conllu": "conllu", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
FORMATS |= {".csv": "csv", ".tsv": "tsv"} | dict.fromkeys((".conll", ".iob", ".bio"), "columns")
FEATURES = {
    "text": Features({"text": Value("string")}),
    "columns": Features({"tokens": List(Value("string")), "tags": List(Value("string"))}),
    "conllu": TREES,
    "embedded": TREES,
}
SPACES = re.compile(r"\s+", re.ASCII)
# How many characters of a file are checked before it is read.
SAMPLE = 1 << 20
# How many rows, characters and bytes are read at once, and how many words a sentence may have.
BLOCK_ROWS, BLOCK_SIZE, LONGEST_SENTENCE = 1_000, 1 << 24, 1 << 20


@lru_cache(maxsize=4)
def code_digest() -> str:
    """A digest of the code that makes rows: in a cache's key, it keeps old rows from new code."""
    here = Path(__file__).parent.parent
    rooms = ("languages", "minienglish", "data", "objectives", "tasks", "hub")
    files = [path for room in rooms for path in sorted((here / room).rglob("*.py"))]
    files += [here / "minienglish/grammar.json", *sorted(here.glob("languages/*/*.json"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def file_format(path: str | Path) -> str:
    """The format by a file's ending, compressed or not; a file without a known ending is text.

    What looks like columns by its ending and has ten of them, numbered, is CoNLL-U.
    """
    endings = [e for e in map(str.lower, Path(path).suffixes) if e not in COMPRESSIONS]
    kind = FORMATS.get(endings[-1] if endings else "", "text")
    if kind == "columns" and Path(path).is_file():
        lines = (line for line in read_lines(path) if line.strip() and line[0] != "#")
        first = next(lines, "").split("\t")
        return "conllu" if len(first) == 10 and first[0][:1].isdigit() else kind
    return kind


def check_file(path: str | Path) -> None:
    """Raise, in one line, for a file that is missing, a folder, empty or, in its start, no text."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, check the path")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the files in it")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    if file_format(path) == "parquet":
        return
    blank, size = True, 0
    for line in read_lines(path):
        blank, size = blank and not line.strip(), size + len(line)
        if size > SAMPLE and not blank:
            return
    if blank:
        raise ValueError(f"{path} is empty: it has only white space")


def column_rows(path: str) -> Iterator[Row]:
    """Sentences of a column file: a word first and its tag last on a line, blank lines between.

    Columns are parted by tabs or, in a line without one, by ASCII white space. Lines of
    `-DOCSTART-`, and comments (`# `) before a sentence, are skipped.
    """
    check_file(path)
    row: Row = {"tokens": [], "tags": []}
    for number, line in enumerate(chain(read_lines(path), [""]), 1):
        columns = line.split("\t") if "\t" in line else SPACES.split(line.strip(" "))
        if not line.strip():
            if row["tokens"]:
                yield row
            row = {"tokens": [], "tags": []}
        elif columns[0] != "-DOCSTART-" and (row["tokens"] or not line.startswith("# ")):
            word, tag = columns[0].strip(" "), columns[-1].strip(" ")
            if len(columns) == 1 or not (word and tag):
                raise ValueError(f"{path}, line {number}: a word without a tag")
            row["tokens"].append(word)
            row["tags"].append(tag)
            if len(row["tokens"]) > LONGEST_SENTENCE:
                raise ValueError(f"{path}, line {number}: part the sentences by blank lines")


def _json_rows(path: str) -> Iterator[Row]:
    """The objects of JSON lines, or of one array."""
    texts = read_lines(path)
    if next(line for line in read_lines(path) if line.strip()).lstrip().startswith("["):
        lines, size = [], 0
        for line in texts:
            lines.append(line)
            size += len(line)
            if size > LONGEST_LINE:
                raise ValueError(f"{path} is too large for one array: give an object a line")
        texts = iter(["\n".join(lines)])
    for number, text in enumerate(texts, 1):
        try:
            value = json.loads(text) if text.strip() else []
        except (ValueError, RecursionError) as error:
            reason = f"line {number} is not JSON ({error}); give an object a line"
            raise ValueError(f"{path} cannot be read as json: {reason}") from None
        for row in value if isinstance(value, list) else [value]:
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: no object of names and values")
            yield row


def _rows(kind: str, path: str, **arguments: Any) -> Iterator[Row]:
    if kind == "text":
        return ({"text": line} for line in read_lines(path))
    if kind == "json":
        return _json_rows(path)
    if kind == "columns":
        return column_rows(path)
    embedded = kind == "embedded"
    found = minienglish.sentences(**arguments) if embedded else read_conllu(path, trees=False)
    return ({name: list(getattr(s, name)) for name in TREES} for s in found)


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    block: list[Row] = []
    size = 0
    for row in rows:
        block.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str | list))
        if len(block) == BLOCK_ROWS or size > BLOCK_SIZE:
            yield block
            block, size = [], 0
    yield block


def _csv(kind: str, path: str) -> pa.csv.CSVStreamingReader:
    """A table with a header. Tabs part columns as they are; what commas part may be quoted."""
    quotes: Any = {"delimiter": "\t", "quote_char": False}
    texts = dict.fromkeys((*TEXT_COLUMNS, "premise", "hypothesis"), pa.string())
    reader = pa.csv.open_csv(
        open_file(path, "rb"),
        pa.csv.ReadOptions(block_size=BLOCK_SIZE),
        pa.csv.ParseOptions(**quotes if kind == "tsv" else {"newlines_in_values": True}),
        pa.csv.ConvertOptions(column_types=texts),
    )
    names = reader.schema.names
    if len(set(names)) < len(names):
        raise ValueError(f"{path} has two columns of one name among {', '.join(names)}")
    return reader


def _merged(schema: pa.Schema, rows: list[Row], path: str, first: int) -> pa.Schema:
    """The columns of these rows and of those before; ValueError for the first row that is unlike.

    `first` is the number of the first of these rows.
    """
    try:
        columns = pa.schema(list(pa.array(rows).type)) if rows else pa.schema([])
        return pa.unify_schemas([schema, columns], promote_options="permissive")
    except (pa.ArrowException, ValueError, OverflowError) as error:
        if len(rows) == 1:
            raise ValueError(f"{path}, row {first}: {error}") from None
    half = len(rows) // 2
    schema = _merged(schema, rows[:half], path, first)
    return _merged(schema, rows[half:], path, first + half)


def _features(kind: str, path: str) -> Features:
    if kind in FEATURES:
        return FEATURES[kind]
    if kind == "parquet":
        return Features.from_arrow_schema(pq.read_schema(open_file(path, "rb")))
    if kind != "json":
        return Features.from_arrow_schema(_csv(kind, path).schema)
    schema, number = pa.schema([]), 1
    for rows in _blocks(_json_rows(path)):
        schema = _merged(schema, rows, path, number)
        number += len(rows)
    return Features.from_arrow_schema(schema)


def _tables(kind: str, path: str, features: Features, **arguments: Any) -> Iterator[pa.Table]:
    if kind == "parquet":
        for batch in pq.ParquetFile(open_file(path, "rb")).iter_batches(BLOCK_ROWS):
            yield pa.Table.from_batches([batch])
    elif kind in ("csv", "tsv"):
        for batch in _csv(kind, path):
            yield pa.Table.from_batches([batch])
    else:
        for rows in _blocks(_rows(kind, path, **arguments)):
            yield pa.Table.from_pylist(rows, features.arrow_schema)


def _stream(kind: str, path: str, **arguments: Any) -> Iterator[Row]:
    if kind in ("parquet", "csv", "tsv"):
        for table in _tables(kind, path, Features()):
            yield from table.to_pylist()
    else:
        yield from _rows(kind, path, **arguments)


@dataclass
class _Source(datasets.BuilderConfig):
    arguments: dict[str, Any] | None = None  # kind, path and, of the embedded corpus, its own
    key: Any = None  # what rows depend on besides


class _Builder(datasets.ArrowBasedBuilder):
    BUILDER_CONFIG_CLASS = _Source

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo()

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        arguments = self.config.arguments
        self.info.features = _features(arguments["kind"], arguments["path"])
        return [datasets.SplitGenerator("train", dict(arguments))]

    def _generate_tables(self, **arguments: Any) -> Iterator[tuple[int, pa.Table]]:
        yield from enumerate(_tables(features=self.info.features, **arguments))


def corpus_of(kind: str, path: str, key: Any, streaming: bool, **arguments: Any) -> Corpus:
    """The rows of a source, as a table that `datasets` caches by what they depend on."""
    arguments |= {"kind": kind, "path": path}
    if streaming:
        return IterableDataset.from_generator(_stream, FEATURES.get(kind), gen_kwargs=arguments)
    builder = _Builder(arguments=arguments, key=(key, code_digest()))
    builder.download_and_prepare()
    return builder.as_dataset("train")


@contextlib.contextmanager
def errors_that_name(source: str, kind: str = "rows") -> Iterator[None]:
    """Make what a library says of a damaged source an error of one line."""
    try:
        yield
    except (DatasetGenerationError, pa.ArrowException, *DAMAGED) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        if source not in reason:
            reason = f"{source} cannot be read as {kind}: {reason}"
        raise ValueError(reason) from None


def read_file(path: str, *, streaming: bool = False) -> Corpus:
    """The rows of a file by its format, all columns; what cannot be read is a one-line error."""
    check_file(path)
    kind, status = file_format(path), Path(path).stat()
    with errors_that_name(path, kind):
        corpus = corpus_of(kind, path, (status.st_size, status.st_mtime_ns), streaming)
        if next(iter(corpus), None) is None:
            raise ValueError(f"{path} has no rows")
        return corpus
