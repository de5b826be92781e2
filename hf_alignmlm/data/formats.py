"""A file of any format to rows, in bounded memory; what cannot be read is an error of one line."""

import contextlib
import csv
import hashlib
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset, List, Value
from datasets.exceptions import DatasetGenerationError

from hf_alignmlm import minienglish
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.data.rows import TREES
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
LONGEST_SENTENCE = 1 << 20  # in words
# What readers raise for damaged sources, and RecursionError for values nested thousands deep.
LIBRARY_ERRORS = (DatasetGenerationError, pa.ArrowException, OSError, ValueError, TypeError)


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
        blank, size = blank and not line.strip(), size + len(line) + 1
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
            if "\\ud" in text.lower():  # half of a pair of surrogates is no text
                json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            reason = f"line {number} is not JSON ({error}); give an object a line"
            raise ValueError(f"{path} cannot be read as json: {reason}") from None
        for row in value if isinstance(value, list) else [value]:
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: no object of names and values")
            yield row


def _table_rows(path: str, kind: str) -> Iterator[Row]:
    """The rows below a header. What commas part may be quoted; what tabs part is as it stands."""
    csv.field_size_limit(LONGEST_LINE)
    options: Any = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {}
    table = csv.reader((f"{line}\n" for line in read_lines(path)), strict=True, **options)
    rows = filter(None, table)
    try:
        names = next(rows)
        if len(set(names)) < len(names):
            raise ValueError(f"{path} has two columns of one name among {', '.join(names)}")
        for values in rows:
            if len(values) != len(names):
                reason = f"{len(values)} columns, but {len(names)} names in the first line"
                raise ValueError(f"{path}, line {table.line_num}: {reason}")
            row: Row = dict(zip(names, values, strict=True))
            # Values are texts, but a label may be the number of a class.
            if re.fullmatch(r"-?\d+", row.get("label", "")):
                row["label"] = int(row["label"])
            yield row
    except csv.Error as error:  # a quote that nothing closes would take all that follows
        raise ValueError(f"{path}, line {table.line_num}: {error}; close the quotes") from None


def _merged(schema: pa.Schema, rows: list[Row], path: str, first: int) -> pa.Schema:
    """The columns of these rows and of those before; ValueError for the first row that is unlike.

    `first` is the number of the first of these rows.
    """
    try:
        columns = pa.schema(list(pa.array(rows).type))
        return pa.unify_schemas([schema, columns], promote_options="permissive")
    except (pa.ArrowException, ValueError, OverflowError) as error:
        if len(rows) == 1:
            reason = f"a value of another type than the rest of its column ({error})"
            raise ValueError(f"{path}, row {first}: {reason}") from None
    half = len(rows) // 2
    schema = _merged(schema, rows[:half], path, first)
    return _merged(schema, rows[half:], path, first + half)


def _features(kind: str, path: str) -> Features | None:
    if kind == "parquet":
        return Features.from_arrow_schema(pq.read_schema(open_file(path, "rb")))
    if kind != "json":
        return FEATURES.get(kind)
    schema, rows, number = pa.schema([]), _json_rows(path), 1
    while block := list(islice(rows, 1000)):
        schema = _merged(schema, block, path, number)
        number += len(block)
    return Features.from_arrow_schema(schema)


def _rows(kind: str, path: str, key: Any, **arguments: Any) -> Iterator[Row]:
    """The rows of a file, or of the embedded corpus; `key` is for the cache alone."""
    if kind == "text":
        yield from ({"text": line} for line in read_lines(path))
    elif kind == "json":
        yield from _json_rows(path)
    elif kind == "columns":
        yield from column_rows(path)
    elif kind in ("csv", "tsv"):
        yield from _table_rows(path, kind)
    elif kind == "parquet":
        for batch in pq.ParquetFile(open_file(path, "rb")).iter_batches(1000):
            yield from batch.to_pylist()
    else:
        conllu = kind == "conllu"
        for s in read_conllu(path, trees=False) if conllu else minienglish.sentences(**arguments):
            yield {name: list(getattr(s, name)) for name in TREES}


def corpus_of(kind: str, path: str, key: Any, streaming: bool, **arguments: Any) -> Corpus:
    """The rows of a source. `datasets` caches a table by these arguments, the key and our code."""
    arguments |= {"kind": kind, "path": path, "key": (key, code_digest())}
    # A stream takes rows of JSON as they are, for it has no end to wait for.
    features = FEATURES.get(kind) if streaming else _features(kind, path)
    make = IterableDataset if streaming else Dataset
    return make.from_generator(_rows, gen_kwargs=arguments, features=features)


@contextlib.contextmanager
def errors_that_name(source: str, kind: str = "rows") -> Iterator[None]:
    """Make what a library says of a damaged source an error of one line."""
    try:
        yield
    except (*LIBRARY_ERRORS, *DAMAGED, RecursionError) as error:
        # Arrow has plain OSErrors for a damaged file; those of the system have a number.
        if isinstance(error, FileNotFoundError) or getattr(error, "errno", None):
            raise
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) else error
        reason = " ".join(str(cause or error).split())
        if source not in reason:
            reason = f"{source} cannot be read as {kind}: {reason:.300}"
        raise ValueError(reason) from None


def file_rows(path: str) -> Iterator[Row]:
    """The rows of a file by its format, whatever their types; a name that a row lacks is null."""
    check_file(path)
    kind = file_format(path)
    with errors_that_name(path, kind):
        # Only rows of JSON may lack a name that others have; the file is read once more for them.
        rows = _rows(kind, path, None) if kind == "json" else ()
        names = dict.fromkeys(name for row in rows for name in row)
        yield from (names | row for row in _rows(kind, path, None))


def file_stamp(path: str) -> tuple[str, int, int]:
    """Where a file lies, its size and its time: in a cache's key, they keep old rows away."""
    status = Path(path).stat()
    return str(Path(path).resolve()), status.st_size, status.st_mtime_ns


def read_file(path: str, *, streaming: bool = False) -> Corpus:
    """The rows of a file by its format, all columns; what cannot be read is a one-line error."""
    check_file(path)
    kind, stamp = file_format(path), file_stamp(path)
    with errors_that_name(path, kind):
        if not any(_rows(kind, path, stamp)):
            raise ValueError(f"{path} has no rows")
        return corpus_of(kind, path, stamp, streaming)
