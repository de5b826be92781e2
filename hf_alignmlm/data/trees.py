"""Dependency trees for text that has none: a file is parsed once, and all else reads the result.

`alignmlm parse` writes sentences with `words`, `upos`, `heads` and `deprels` as parquet. It works
in parts, each a file: a killed run goes on where it was, and ends in the same file. (`Dataset.map`
falls short: its parts are a process's rows each, and a killed process would start anew.)
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import accumulate
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import sentencex
from datasets import Dataset, Features
from tqdm import tqdm

from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.data import sources
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.data.parsers import digest_files, load_parser
from hf_alignmlm.data.sources import TREE_COLUMNS, TREES
from hf_alignmlm.files import read_json, write_bytes, write_json
from hf_alignmlm.languages.word_order import Sentence, is_projective
from hf_alignmlm.runs import MANIFEST_FILE

FORMAT_VERSION = "1"
METADATA = b"hf_alignmlm.parsing"  # the key of what a parquet file of ours says of itself
ROWS_PER_PART = 1000
PAIR = ("premise", "hypothesis")


def _read(path: str) -> Dataset:
    if sources.file_format(path) != "conllu":
        return sources.read_file(path)
    sources.check_file(path)
    sentences = list(read_conllu(path, trees=False))
    if any(head is not None for s in sentences for head in s.heads):
        raise ValueError(f"{path} has trees already")
    tags = [None if {None, "_"} & {*s.upos} else s.upos for s in sentences]
    return Dataset.from_dict({"words": [s.words for s in sentences], "upos": tags})


class _Column(NamedTuple):
    """A column to parse, and where its sentences go."""

    name: str
    is_text: bool  # or lists of words
    words: str  # the column that the words go to
    prefix: str  # of the columns of the tree


def _columns(path: str, features: Features) -> list[_Column]:
    """The columns to parse: one of text or words, or those of pairs; ValueError where none fits."""
    names = [n for n in (*sources.WORD_COLUMNS, *sources.TEXT_COLUMNS) if n in features][:1]
    columns = []
    for name in PAIR if set(PAIR) <= set(features) else names:
        prefix = f"{name}_" if name in PAIR else ""
        if f"{prefix}heads" in features:
            raise ValueError(f"{path} has trees already, in its column {prefix}heads")
        for given in {name, f"{prefix}upos"} & set(features):
            kind = getattr(features[given], "feature", features[given])
            if getattr(kind, "dtype", "") not in ("string", "large_string", "null"):
                raise ValueError(f"{path}: the column {given} does not hold words")
        is_text = not hasattr(features[name], "feature")
        target = "words" if is_text and name not in PAIR else name
        columns.append(_Column(name, is_text, target, prefix))
    if not columns:
        raise ValueError(
            f"{path} has the columns {', '.join(features)}: name the text's column "
            f"{' or '.join(sources.TEXT_COLUMNS)}, that of lists of words "
            f"{' or '.join(sources.WORD_COLUMNS)}, or those of pairs {' and '.join(PAIR)}"
        )
    return columns


def _join(sentences: Sequence[Sentence]) -> Sentence:
    """One sentence of several, with a root for each: heads [0, 1] and [0, 1] give [0, 1, 0, 3]."""
    starts = accumulate((len(s.words) for s in sentences), initial=0)
    heads = (h and h + start for s, start in zip(sentences, starts, strict=False) for h in s.heads)
    words, upos, deprels = (
        tuple(value for s in sentences for value in getattr(s, name))
        for name in ("words", "upos", "deprels")
    )
    return Sentence(words, upos, tuple(heads), deprels)


class _Task:
    """A file to parse and its parser; called, it parses a part of the rows into a file."""

    def __init__(self, path: str, parser: str) -> None:
        self.rows = _read(path)
        self.columns = _columns(path, self.rows.features)
        self.features = self.rows.features.copy()
        for column in self.columns:
            del self.features[column.name]
            self.features[column.words] = TREES["words"]
            self.features |= {column.prefix + name: TREES[name] for name in TREE_COLUMNS}
        self.parser = load_parser(parser)

    def __call__(self, start: int, output: Path) -> Counter[str]:
        """Parse the part that starts at this row, write it, and return its counts."""
        given = self.rows.with_format("arrow")[start : start + ROWS_PER_PART].to_pylist()
        rows, counts = self.parse(given)
        schema = self.features.arrow_schema
        schema = schema.with_metadata({**schema.metadata, METADATA: json.dumps(counts)})
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema), stream)
        write_bytes(output, stream.getvalue())
        return counts

    def parse(self, given: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
        """The rows with trees, and counts: a text is a row a sentence, a pair stays one row."""
        parsed = [self.sentences([row[c.name] for row in given], c.is_text) for c in self.columns]
        rows, counts = [], Counter(empty=0, sentences=0, words=0, nonprojective=0)
        for row, *by_column in zip(given, *parsed, strict=True):
            if not all(by_column):
                counts["empty"] += 1
            elif len(by_column) > 1:
                rows.append(self.fill(row, [_join(sentences) for sentences in by_column], counts))
            else:
                rows += [self.fill(row, [sentence], counts) for sentence in by_column[0]]
        return rows, counts

    def fill(
        self, row: dict[str, Any], sentences: list[Sentence], counts: Counter[str]
    ) -> dict[str, Any]:
        """The row with a sentence and its tree for each column; tags given with the words stay."""
        row = dict(row)
        for column, sentence in zip(self.columns, sentences, strict=True):
            given_tags = None if column.is_text else row.get(column.prefix + "upos")
            row[column.words] = sentence.words
            row |= {column.prefix + name: getattr(sentence, name) for name in TREE_COLUMNS}
            row[column.prefix + "upos"] = given_tags or sentence.upos
            counts["sentences"] += 1
            counts["words"] += len(sentence.words)
            counts["nonprojective"] += not is_projective(sentence.heads)
        return row

    def sentences(self, values: list[Any], is_text: bool) -> list[list[Sentence]]:
        """The parsed sentences of each text, or the one of each list of words; none if empty."""
        rows = [[value] if value else [] for value in values]
        if is_text:
            language = self.parser.language
            split = [list(sentencex.segment(language, (v or "").strip())) for v in values]
            words = iter(self.parser.words([text for texts in split for text in texts]))
            rows = [[w for w in (next(words) for _ in texts) if w] for texts in split]
        trees = self.parser.trees(words for row in rows for words in row)
        return [[next(trees) for _ in row] for row in rows]


_task = lru_cache(maxsize=1)(_Task)


def _follow_parent() -> None:
    """End this process with its parent, so that a killed run leaves no process behind."""
    parent: Any = parent_process()
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _in_process(path: str, parser: str, start: int, output: Path) -> Counter[str]:
    return _task(path, parser)(start, output)


def _parse_parts(task: _Task, path: str, parser: str, parts: dict[int, Path], num_proc: int) -> int:
    """Make the parts that are not there yet, and return the number of words in those."""
    jobs = {start: part for start, part in parts.items() if not part.exists()}
    words = 0
    with (
        ProcessPoolExecutor(num_proc, get_context("spawn"), _follow_parent) as pool,
        tqdm(total=len(parts), initial=len(parts) - len(jobs), unit="part") as bar,
    ):
        many = num_proc > 1
        work = partial(pool.map, partial(_in_process, path, parser)) if many else partial(map, task)
        for counts in work(jobs, jobs.values()):
            words += counts["words"]
            bar.set_postfix(words=words, refresh=False)
            bar.update()
    return words


def _metadata(path: Path) -> dict[str, Any]:
    """What a parquet file of ours says of itself; nothing, if it is any other file."""
    try:
        return json.loads((pq.read_schema(path).metadata or {}).get(METADATA, "{}"))
    except (pa.ArrowInvalid, OSError):
        return {}


def _claim(output: Path, parts: Path, made_from: dict[str, Any], overwrite: bool) -> bool:
    """Whether there is work to do; ValueError for what was made from anything else."""
    manifest = parts / MANIFEST_FILE
    if parts.exists() and not manifest.is_file():
        raise ValueError(f"{parts} is in the way: it holds no parts of a parsed file")
    existing = {output: _metadata(output).get("made_from", {})} if output.exists() else {}
    existing |= {parts: read_json(manifest)} if parts.exists() else {}
    for path, before in existing.items():
        changed = sorted(name for name in made_from if before.get(name) != made_from[name])
        if changed and not overwrite:
            how = f"made from another {', '.join(changed)}" if before else "made by other means"
            raise ValueError(
                f"{path} exists, {how}: name another --output, or give --overwrite_output_dir"
            )
        if changed and path == parts:
            shutil.rmtree(parts)
    if output.exists() and not overwrite:
        return False
    write_json(manifest, made_from)
    return True


def parse_file(
    path: str | Path,
    parser: str,
    output: str | Path,
    *,
    num_proc: int = 1,
    overwrite: bool = False,
) -> dict[str, float]:
    """Write `path` with trees as parquet, going on where a killed run was, and return its counts.

    Counts: sentences, words, nonprojective (sentences), empty (rows, skipped) and, unless all was
    there before, words_per_second. Raises ValueError or OSError, before any work is done.
    """
    output, parts = Path(output), Path(f"{output}.parts")
    if output.suffix != ".parquet":
        raise ValueError(f"{output}: the output is a parquet file, name it so")
    if output.exists() and output.samefile(path):
        raise ValueError(f"{output} is the input: name another --output")
    task = _Task(str(path), parser)
    made_from = {"input": digest_files([Path(path)]), "parser": task.parser.digest}
    made_from["program"] = FORMAT_VERSION
    if not _claim(output, parts, made_from, overwrite):
        return _metadata(output)["counts"]
    starts = range(0, len(task.rows), ROWS_PER_PART)
    files = {start: parts / f"{start:012}.parquet" for start in starts}
    begun = time.monotonic()
    words = _parse_parts(task, str(path), parser, files, num_proc)
    speed = words / (time.monotonic() - begun)
    counts: Counter[str] = Counter()
    for file in files.values():
        counts.update(_metadata(file))
    if not counts["sentences"]:
        shutil.rmtree(parts)
        raise ValueError(f"{path} has no sentence")
    about = json.dumps({"made_from": made_from, "counts": counts})
    schema = task.features.arrow_schema
    schema = schema.with_metadata({**schema.metadata, METADATA: about})
    with pq.ParquetWriter(parts / "whole", schema) as writer:
        for file in files.values():
            writer.write_table(pq.read_table(file))
    os.replace(parts / "whole", output)
    for file in files.values():
        file.unlink()
    shutil.rmtree(parts)  # the manifest last: a folder without one is not ours
    return {**counts, "words_per_second": speed}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse a file; errors are one line on stderr and exit code 2."""
    cli = argparse.ArgumentParser(prog="alignmlm parse", description=__doc__, allow_abbrev=False)
    cli.add_argument("path", help="text, JSON lines, parquet or CoNLL-U, gzip or not")
    cli.add_argument("--parser", required=True, help="folder of a spaCy pipeline, or stanza:en")
    cli.add_argument("--output", required=True, help="the parquet file to write")
    cli.add_argument(
        "--preprocessing_num_workers", type=int, default=1, help="processes that parse"
    )
    cli.add_argument("--overwrite_output_dir", action="store_true", help="replace another output")
    options = cli.parse_args(argv)
    with one_line_errors():
        counts = parse_file(
            options.path,
            options.parser,
            options.output,
            num_proc=options.preprocessing_num_workers,
            overwrite=options.overwrite_output_dir,
        )
    speed = counts.get("words_per_second")
    share = 100 * counts["nonprojective"] / counts["sentences"]
    print(
        f"{options.output}: {counts['sentences']:,} sentences, {counts['words']:,} "
        f"words, {share:.2f} % non-projective, {counts['empty']:,} empty rows skipped; "
        + ("there before, nothing to do" if speed is None else f"{speed:,.0f} words/s")
    )
