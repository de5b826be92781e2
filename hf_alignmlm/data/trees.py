"""Dependency trees for text that has none: a file is parsed once, and all else reads the result.

`alignmlm parse` writes sentences with `words`, `upos`, `heads` and `deprels` as parquet. It works
in parts. Each is a file that is whole and says what it was made from, so a killed run goes on with
the rest. (`Dataset.map` falls short: a killed process would do its whole share anew.)
"""

import argparse
import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sentencex
from datasets import Features
from tqdm import tqdm

from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.data.conllu import TREE_ALIASES
from hf_alignmlm.data.formats import check_file, errors_that_name, file_format, read_file
from hf_alignmlm.data.parsers import digest_files, load_parser
from hf_alignmlm.data.rows import TEXT_COLUMNS, TREE_COLUMNS, TREES, WORD_COLUMNS, as_text, as_words
from hf_alignmlm.files import check_output, exclusive
from hf_alignmlm.languages.word_order import Sentence, is_projective

FORMAT_VERSION = "1"
METADATA = b"hf_alignmlm.parsing"  # the key of what a parquet file of ours says of itself
ROWS_PER_PART = 1000
PART = re.compile(r"\.?\d{12}\.parquet.*|whole")  # the names in a folder of parts, half ones too
PAIR = ("premise", "hypothesis")


def _columns(path: str, features: Features) -> dict[str, dict[str, str]]:
    """The columns to parse: one of text or words, or those of pairs; ValueError where none fits.

    Each has the names of its words and tree in the output: "premise" has {"words": "premise",
    "upos": "premise_upos", …}.
    """
    names = [n for n in (*WORD_COLUMNS, *TEXT_COLUMNS) if n in features][:1]
    columns = {}
    for name in PAIR if set(PAIR) <= set(features) else names:
        prefix = f"{name}_" if name in PAIR else ""
        columns[name] = {"words": "words" if name in TEXT_COLUMNS else name}
        columns[name] |= {column: prefix + column for column in TREE_COLUMNS}
        if trees := {f"{prefix}heads", prefix + TREE_ALIASES["heads"]} & set(features):
            raise ValueError(f"{path} has trees already, in its column {trees.pop()}")
    if not columns:
        raise ValueError(
            f"{path} has the columns {', '.join(features)}: name the text's column "
            f"{' or '.join(TEXT_COLUMNS)}, that of lists of words "
            f"{' or '.join(WORD_COLUMNS)}, or those of pairs {' and '.join(PAIR)}"
        )
    return columns


def _join(sentences: Iterable[Sentence]) -> Sentence:
    """One sentence of several, with a root for each: heads [0, 1] and [0, 1] give [0, 1, 0, 3]."""
    joined = Sentence((), (), (), ())
    for s in sentences:
        heads = tuple(head and head + len(joined.words) for head in s.heads)
        new = Sentence(s.words, s.upos, heads, s.deprels)
        joined = Sentence(*(getattr(joined, name) + getattr(new, name) for name in TREES))
    return joined


class _Task:
    """A file to parse and its parser; called, it makes a part of the output."""

    def __init__(self, path: str, parser: str) -> None:
        self.arguments = path, parser
        # The digest first, so that rows of a file that changes meanwhile do not get its new digest.
        self.made_from = {"input": digest_files([Path(path)]), "program": FORMAT_VERSION}
        rows = read_file(path)
        is_conllu = file_format(path) == "conllu"
        if is_conllu and {None}.issuperset(chain.from_iterable(rows["heads"])):
            rows = rows.remove_columns(["heads", "deprels"])  # blank, for it has no trees
        self.rows = rows.with_format("arrow")
        self.columns = _columns(path, rows.features)
        self.features = rows.features.copy()
        for name, outputs in self.columns.items():
            del self.features[name]
            self.features |= {output: TREES[column] for column, output in outputs.items()}
        self.parser = load_parser(parser)
        self.made_from["parser"] = self.parser.digest

    def __call__(self, part: Path) -> Counter[str]:
        """Write a part, whose name is the number of its first row, and return its counts.

        A text becomes a row a sentence, a pair stays one row. Tags given with the words stay.
        """
        start = int(part.stem)
        given = self.rows[start : start + ROWS_PER_PART].to_pylist()
        texts = [self.split([row[name] for row in given]) for name in self.columns]
        counts = Counter(empty=0, sentences=0, words=0, nonprojective=0)
        rows: list[tuple[dict[str, Any], list[list[list[str]]]]] = []
        for row, *cells in zip(given, *texts, strict=True):
            counts["empty"] += not all(cells)
            if len(cells) > 1:
                rows += [(row, cells)] if all(cells) else []
            else:
                rows += [(row, [[words]]) for words in cells[0]]
        trees = iter(self.parser.trees(s for _, cells in rows for cell in cells for s in cell))
        parsed = []
        for row, cells in rows:
            new = dict(row)
            for (name, outputs), cell in zip(self.columns.items(), cells, strict=True):
                sentence = _join(islice(trees, len(cell)))
                new |= {output: getattr(sentence, column) for column, output in outputs.items()}
                tags = row.get(outputs["upos"])
                if tags and isinstance(row[name], list) and "_" not in tags:
                    new[outputs["upos"]] = tags
                counts["sentences"] += 1
                counts["words"] += len(sentence.words)
                counts["nonprojective"] += not is_projective(sentence.heads)
            parsed.append(new)
        half = part.with_name(f".{part.name}.{os.getpid()}")
        pq.write_table(pa.Table.from_pylist(parsed, self.schema(counts)), half)
        os.replace(half, part)
        return counts

    def check(self) -> None:
        """Raise ValueError for the first row that is neither text nor words with tags or none."""
        for number, row in enumerate(self.rows.with_format(None), 1):
            for name, outputs in self.columns.items():
                where = f"{self.arguments[0]}, row {number}"
                if not isinstance(row[name], list):
                    as_text(row[name], where)
                    continue
                words = as_words(row[name], where) or []
                tags = as_words(row.get(outputs["upos"]) or words, where) or []
                if len(tags) != len(words):
                    raise ValueError(f"{where}: {len(words)} words but {len(tags)} tags")

    def split(self, values: list[Any]) -> list[list[list[str]]]:
        """The words of each sentence of each value, which is a text or the words of a sentence."""
        if not any(isinstance(value, str) for value in values):
            return [[value] if value else [] for value in values]
        language = self.parser.language
        texts = [list(sentencex.segment(language, (text or "").strip())) for text in values]
        words = iter(self.parser.words(list(chain.from_iterable(texts))))
        return [[w for w in islice(words, len(sentences)) if w] for sentences in texts]

    def schema(self, counts: Counter[str]) -> pa.Schema:
        about = json.dumps({"made_from": self.made_from, "counts": counts})
        schema = self.features.arrow_schema
        return schema.with_metadata({**schema.metadata, METADATA: about})


_task = lru_cache(maxsize=1)(_Task)


def _in_process(path: str, parser: str, part: Path) -> Counter[str]:
    return _task(path, parser)(part)


def _follow_parent() -> None:
    """End this process with its parent, so that a killed run leaves no process behind."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, without a traceback
    parent: Any = parent_process()
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _about(path: Path) -> dict[str, Any]:
    """What a parquet file of ours says of itself; nothing, if it is not there or any other file."""
    try:
        return json.loads((pq.read_schema(path).metadata or {}).get(METADATA, "{}"))
    except (pa.ArrowInvalid, OSError):
        return {}


def _check(output: Path, parts: Path, made_from: dict[str, str]) -> None:
    """Raise ValueError for an output or parts that were made from anything else."""
    existing = [(output, _about(output))] if output.exists() else []
    existing += [(parts, about) for part in parts.glob("[0-9]*") if (about := _about(part))]
    for path, about in existing:
        before = about.get("made_from", {})
        changed = sorted(name for name in made_from if before.get(name) != made_from[name])
        how = f"made from another {', '.join(changed)}" if before else "made by other means"
        if changed:
            raise ValueError(
                f"{path} exists, {how}: name another --output, or give --overwrite_output_dir"
            )


def _parse_parts(task: _Task, files: list[Path], num_proc: int) -> float:
    """Make the parts that are not there yet, and return the words per second."""
    todo = [file for file in files if _about(file).get("made_from") != task.made_from]
    begun, words = time.monotonic(), 0
    try:
        with ProcessPoolExecutor(num_proc, get_context("spawn"), _follow_parent) as pool:
            in_process = partial(_in_process, *task.arguments)
            done = pool.map(in_process, todo) if num_proc > 1 else map(task, todo)
            there = len(files) - len(todo)
            for counts in tqdm(done, total=len(files), initial=there, unit="part"):
                words += counts["words"]
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process that parses was killed, perhaps for lack of memory: the same command goes "
            "on from here, perhaps with fewer --preprocessing_num_workers"
        ) from None
    return words / (time.monotonic() - begun)


def _join_parts(task: _Task, files: list[Path], parts: Path, output: Path) -> Counter[str]:
    """Write the output from its parts, remove them and return the counts of all."""
    path, about = Path(task.arguments[0]), [_about(file) for file in files]
    counts: Counter[str] = Counter()
    for one in about:
        counts.update(one["counts"])
    problem = "" if counts["sentences"] else "has no sentence"
    now = {**task.made_from, "input": digest_files([path])}
    if any(
        made_from != task.made_from for made_from in (now, *(one["made_from"] for one in about))
    ):
        problem = "or the parser has changed meanwhile: give the command again"
    if problem:
        shutil.rmtree(parts)
        raise ValueError(f"{path} {problem}")
    with pq.ParquetWriter(parts / "whole", task.schema(counts)) as writer:
        for file in files:
            writer.write_table(pq.read_table(file))
    os.replace(parts / "whole", output)
    shutil.rmtree(parts)
    return counts


def parse_file(
    path: str | Path, parser: str, output: str | Path, *, num_proc: int = 1, overwrite: bool = False
) -> dict[str, float]:
    """Write `path` with trees as parquet, going on where a killed run was, and return its counts.

    Counts: sentences, words, nonprojective (sentences), empty (rows, skipped) and, unless all was
    there before, words_per_second. Raises ValueError or OSError, before any work is done.
    """
    check_file(path)
    output, parts = Path(output), Path(f"{output}.parts")
    check_output(output, [path])
    if output.suffix != ".parquet":
        raise ValueError(f"{output}: the output is a parquet file, name it so")
    if num_proc < 1:
        raise ValueError(f"--preprocessing_num_workers {num_proc}: give 1 or more")
    task = _Task(str(path), parser)
    with exclusive(output):
        if parts.exists() and not all(map(PART.fullmatch, os.listdir(parts))):
            raise ValueError(f"{parts} is in the way: remove it, for it holds files of yours")
        if not overwrite:
            _check(output, parts, task.made_from)
            if output.exists():
                shutil.rmtree(parts, ignore_errors=True)
                return _about(output)["counts"]
        with errors_that_name(str(path)):
            task.check()
        parts.mkdir(exist_ok=True)
        starts = range(0, len(task.rows), ROWS_PER_PART)
        files = [parts / f"{start:012}.parquet" for start in starts]
        speed = _parse_parts(task, files, num_proc)
        return {**_join_parts(task, files, parts, output), "words_per_second": speed}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse a file; errors are one line on stderr and exit code 2."""
    cli = argparse.ArgumentParser(prog="alignmlm parse", description=__doc__, allow_abbrev=False)
    add = cli.add_argument
    add("path", help="a file of any format that the training scripts read")
    add("--parser", required=True, help="folder of a spaCy pipeline, or stanza:en")
    add("--output", required=True, help="the parquet file to write")
    add("--preprocessing_num_workers", dest="num_proc", type=int, default=1, help="processes")
    add("--overwrite_output_dir", dest="overwrite", action="store_true", help="replace an output")
    options = cli.parse_args(argv)
    with one_line_errors():
        counts = parse_file(**vars(options))
    speed = counts.get("words_per_second")
    share = 100 * counts["nonprojective"] / counts["sentences"]
    print(
        f"{options.output}: {counts['sentences']:,} sentences, {counts['words']:,} "
        f"words, {share:.2f} % non-projective, {counts['empty']:,} empty rows skipped; "
        + ("there before, nothing to do" if speed is None else f"{speed:,.0f} words/s")
    )
