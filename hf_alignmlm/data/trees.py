"""Dependency trees for text that has none: a file is parsed once, and all else reads the result.

`parse` writes sentences with `words`, `upos`, `heads` and `deprels` as parquet, by a parser of
spaCy's or stanza's; `train` trains such a parser on a UD treebank. Parsing keeps what is done in
parts: a run that was killed goes on where it was, and ends in the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import accumulate
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import sentencex
from datasets import Dataset, List, Value
from tqdm import tqdm

from hf_alignmlm.arguments import one_line_errors, versions
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.data.sources import (
    TEXT_COLUMNS,
    TREE_COLUMNS,
    WORD_COLUMNS,
    check_file,
    file_format,
    read_file,
)
from hf_alignmlm.files import read_json, write_bytes, write_json
from hf_alignmlm.languages.word_order import Sentence, is_projective
from hf_alignmlm.runs import MANIFEST_FILE

FORMAT_VERSION = "1"


METADATA = b"hf_alignmlm.parsing"


SCORES_FILE = "parser.json"


ROWS_PER_PART = 1000


PAIR = ("premise", "hypothesis")


RELATIONS = """acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det
discourse dislocated expl fixed flat goeswith iobj list mark nmod nsubj nummod obj obl orphan
parataxis punct reparandum root vocative xcomp"""


class Parser(Protocol):
    """What gives words and trees; `digest` changes with all that these depend on."""

    language: str
    digest: str

    def words(self, sentences: Sequence[str]) -> list[list[str]]: ...
    def trees(self, sentences: Iterable[Sequence[str]]) -> Iterator[Sentence]: ...


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"{name} is not installed: pip install hf-alignmlm[{name}]") from None


def _digest(files: Iterable[Path], *more: Any) -> str:
    total = hashlib.sha256(json.dumps(more).encode())
    for file in files:
        with open(file, "rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:32]


class SpacyParser:
    """A pipeline of spaCy's. A sentence stays one, whatever the parser would make of it."""

    def __init__(self, nlp: Any, digest: str = "") -> None:
        self.nlp, self.language, self.digest = nlp, nlp.lang, digest

    @classmethod
    def load(cls, folder: Path) -> SpacyParser:
        spacy = _library("spacy")
        if not (folder / "config.cfg").is_file():
            raise ValueError(
                f"{folder} is no parser: name a folder that `train` made, or stanza:en"
            )
        nlp = spacy.load(folder, exclude=["ner", "lemmatizer"])
        labels = nlp.get_pipe("parser").labels if "parser" in nlp.pipe_names else ["no parser"]
        if foreign := {label.partition(":")[0].lower() for label in labels} - {*RELATIONS.split()}:
            raise ValueError(f"{folder}: not relations of UD: {', '.join(sorted(foreign))}")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        parser = cls(nlp, _digest(files, spacy.__version__))
        if not all(next(parser.trees([["word"]])).upos):
            raise ValueError(f"{folder}: it gives no parts of speech")
        return parser

    def doc(self, words: Sequence[str], **annotation: Any) -> Any:
        doc = _library("spacy.tokens").Doc
        return doc(self.nlp.vocab, words=[word or "_" for word in words], **annotation)

    def words(self, sentences: Sequence[str]) -> list[list[str]]:
        tokenizer = self.nlp.tokenizer
        return [[token.text for token in tokenizer(s) if not token.is_space] for s in sentences]

    def trees(self, sentences: Iterable[Sequence[str]]) -> Iterator[Sentence]:
        given = list(sentences)
        # From words even if they are the tokenizer's: its tokens have norms that a treebank's lack.
        docs = (self.doc(words, sent_starts=[i == 0 for i in range(len(words))]) for words in given)
        for words, doc in zip(given, self.nlp.pipe(docs), strict=True):
            rows = []
            for token in doc:
                head = 0 if token.head.i == token.i else token.head.i + 1
                rows.append((token.pos_, head, "root" if token.dep_ == "ROOT" else token.dep_))
            yield Sentence(tuple(words), *zip(*rows, strict=True))


class StanzaParser:
    """stanza's pipeline of a language; its models must have been downloaded."""

    def __init__(self, language: str) -> None:
        self.language, self._stanza = language, _library("stanza")
        self._tokenizer = self._pipeline("tokenize", tokenize_no_ssplit=True)
        self._parser = self._pipeline("tokenize,pos,lemma,depparse", tokenize_pretokenized=True)
        options = {**self._tokenizer.config, **self._parser.config}
        models = sorted(v for v in options.values() if isinstance(v, str) and os.path.isfile(v))
        self.digest = _digest(map(Path, models), self._stanza.__version__, language)

    def _pipeline(self, processors: str, **options: Any) -> Any:
        options |= {"processors": processors, "download_method": None, "logging_level": "ERROR"}
        try:
            return self._stanza.Pipeline(self.language, **options)
        except (OSError, ValueError) as error:
            code = f"import stanza; stanza.download('{self.language}')"
            raise ValueError(f'no stanza model: python -c "{code}" gets it ({error})') from None

    def words(self, sentences: Sequence[str]) -> list[list[str]]:
        documents = self._tokenizer.bulk_process(list(sentences))
        return [[w.text for s in document.sentences for w in s.words] for document in documents]

    def trees(self, sentences: Iterable[Sequence[str]]) -> Iterator[Sentence]:
        given = [list(words) for words in sentences]
        for words, parsed in zip(given, self._parser(given).sentences, strict=True):
            rows = ((w.upos, w.head, w.deprel) for w in parsed.words)
            yield Sentence(tuple(words), *zip(*rows, strict=True))


def load_parser(name: str) -> Parser:
    """A parser by its folder (spaCy's) or as `stanza:en`; ValueError or OSError, in one line."""
    if name.startswith("stanza:"):
        return StanzaParser(name.removeprefix("stanza:"))
    if not Path(name).is_dir():
        raise FileNotFoundError(f"{name}: no such folder; `train` makes one, or name stanza:en")
    return SpacyParser.load(Path(name))


def _read(path: str) -> Dataset:
    if file_format(path) != "conllu":
        return read_file(path)
    check_file(path)
    sentences = list(read_conllu(path, trees=False))
    if any(head is not None for s in sentences for head in s.heads):
        raise ValueError(f"{path} has trees already")
    tags = [None if {None, "_"} & {*s.upos} else s.upos for s in sentences]
    return Dataset.from_dict({"words": [s.words for s in sentences], "upos": tags})


def _join(sentences: Sequence[Sentence]) -> Sentence:
    """One sentence of several, with a root for each."""
    starts = accumulate((len(s.words) for s in sentences), initial=0)
    heads = (h and h + start for s, start in zip(sentences, starts, strict=False) for h in s.heads)
    return Sentence(
        tuple(word for s in sentences for word in s.words),
        tuple(tag for s in sentences for tag in s.upos),
        tuple(heads),
        tuple(relation for s in sentences for relation in s.deprels),
    )


class _Column(NamedTuple):
    name: str
    is_text: bool  # or lists of words
    words: str  # the column that the words go to
    prefix: str  # of the columns of the tree


class _Task:
    """A file to parse and its parser; called, it parses a part of the rows into a file."""

    def __init__(self, path: str, parser: str) -> None:
        self.rows = _read(path)
        names, self.features = self.rows.column_names, self.rows.features.copy()
        one = [name for name in (*WORD_COLUMNS, *TEXT_COLUMNS) if name in names][:1]
        self.columns: list[_Column] = []
        for name in PAIR if set(PAIR) <= set(names) else one:
            prefix, target = (f"{name}_", name) if name in PAIR else ("", "words")
            if f"{prefix}heads" in names:
                raise ValueError(f"{path} has trees already, in its column {prefix}heads")
            for given in {name, f"{prefix}upos"} & set(names):
                kind = getattr(self.features[given], "feature", self.features[given])
                if getattr(kind, "dtype", "") not in ("string", "large_string", "null"):
                    raise ValueError(f"{path}: the column {given} does not hold words")
            is_text = not hasattr(self.features.pop(name), "feature")
            target = target if is_text else name
            self.columns.append(_Column(name, is_text, target, prefix))
            made = (target, *(prefix + column for column in TREE_COLUMNS))
            for column in made:
                self.features[column] = List(Value("int32" if "heads" in column else "string"))
        if not self.columns:
            raise ValueError(
                f"{path} has the columns {', '.join(names)}: name the text's column "
                f"{' or '.join(TEXT_COLUMNS)}, that of lists of words {' or '.join(WORD_COLUMNS)}, "
                f"or those of pairs {' and '.join(PAIR)}"
            )
        self.parser = load_parser(parser)

    def __call__(self, start: int, output: Path) -> dict[str, int]:
        table, counts = self.parse(self.rows.with_format("arrow")[start : start + ROWS_PER_PART])
        stream = io.BytesIO()
        metadata = {**table.schema.metadata, METADATA: json.dumps(counts)}
        pq.write_table(table.replace_schema_metadata(metadata), stream)
        write_bytes(output, stream.getvalue())
        return counts

    def parse(self, rows: pa.Table) -> tuple[pa.Table, Counter[str]]:
        """The rows with trees, and counts: a text is a row a sentence, a pair stays one row."""
        found = [self.sentences(rows[c.name].to_pylist(), c.is_text) for c in self.columns]
        kept: list[tuple[int, list[Sentence]]]
        if len(found) == 1:
            kept = [(i, [s]) for i, sentences in enumerate(found[0]) for s in sentences]
        else:
            pairs = enumerate(zip(*found, strict=True))
            kept = [(i, [_join(s) for s in pair]) for i, pair in pairs if all(pair)]
        indices = [i for i, _ in kept]
        counts = Counter(empty=len(rows) - len(set(indices)))
        taken = rows.take(pa.array(indices, pa.int64()))
        data: dict[str, Any] = {name: taken[name] for name in taken.column_names}
        for n, column in enumerate(self.columns):
            parsed = [sentences[n] for _, sentences in kept]
            upos: list[Sequence[str]] = [s.upos for s in parsed]
            if column.prefix + "upos" in data and not column.is_text:  # gold tags stay
                gold = data[column.prefix + "upos"].to_pylist()
                upos = [g or s.upos for g, s in zip(gold, parsed, strict=True)]
            trees = (upos, [s.heads for s in parsed], [s.deprels for s in parsed])
            data[column.words] = [s.words for s in parsed]
            data |= {column.prefix + c: v for c, v in zip(TREE_COLUMNS, trees, strict=True)}
            counts["sentences"] += len(parsed)
            counts["words"] += sum(len(s.words) for s in parsed)
            counts["nonprojective"] += sum(not is_projective(s.heads) for s in parsed)
        schema = self.features.arrow_schema
        return pa.table({name: data[name] for name in self.features}, schema=schema), counts

    def sentences(self, values: list[Any], is_text: bool) -> list[list[Sentence]]:
        """The parsed sentences of each text, or the one of each list of words; none if empty."""
        given = [[value] if value else [] for value in values]
        if is_text:
            split = [
                list(sentencex.segment(self.parser.language, (v or "").strip())) for v in values
            ]
            words = iter(self.parser.words([s for row in split for s in row]))
            given = [[found for _ in row if (found := next(words))] for row in split]
        trees = self.parser.trees(s for row in given for s in row)
        return [[next(trees) for _ in row] for row in given]


_task = lru_cache(maxsize=1)(_Task)


def _follow_parent() -> None:
    parent: Any = parent_process()  # a killed run leaves no process behind
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _in_process(path: str, parser: str, start: int, output: Path) -> dict[str, int]:
    return _task(path, parser)(start, output)


def _told(path: Path) -> dict[str, Any]:
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
    old = {output: _told(output).get("made_from", {})} if output.exists() else {}
    old |= {parts: read_json(manifest)} if parts.exists() else {}
    for path, before in old.items():
        changed = sorted(name for name in made_from if before.get(name) != made_from[name])
        if changed and not overwrite:
            told = f"made from another {', '.join(changed)}" if before else "made by other means"
            raise ValueError(f"{path} exists, {told}: name another --output, or give --overwrite")
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
    """Write `path` with trees as parquet, going on where a killed run was, and give its counts.

    Counts: sentences, words, nonprojective (sentences), empty (rows, skipped) and, unless all was
    there before, words_per_second. Raises ValueError or OSError, before any work is done.
    """
    output, parts = Path(output), Path(f"{output}.parts")
    if output.suffix != ".parquet":
        raise ValueError(f"{output}: the output is a parquet file, name it so")
    if output.exists() and output.samefile(path):
        raise ValueError(f"{output} is the input: name another --output")
    task = _Task(str(path), parser)
    made_from = {"input": _digest([Path(path)]), "parser": task.parser.digest}
    made_from["program"] = FORMAT_VERSION
    if not _claim(output, parts, made_from, overwrite):
        return _told(output)["counts"]
    every = {i: parts / f"{i:012}.parquet" for i in range(0, len(task.rows), ROWS_PER_PART)}
    jobs = {start: part for start, part in every.items() if not part.exists()}
    words, begun = 0, time.monotonic()
    with (
        ProcessPoolExecutor(num_proc, get_context("spawn"), _follow_parent) as pool,
        tqdm(total=len(every), initial=len(every) - len(jobs), unit="part") as bar,
    ):
        in_process = partial(_in_process, str(path), parser)
        work = (
            pool.map(in_process, jobs, jobs.values())
            if num_proc > 1
            else map(task, jobs, jobs.values())
        )
        for counts in work:
            words += counts["words"]
            bar.set_postfix(words=words, refresh=False)
            bar.update()
    speed = words / (time.monotonic() - begun)
    total: Counter[str] = Counter()
    for part in every.values():
        total.update(_told(part))
    if not total["sentences"]:
        shutil.rmtree(parts)
        raise ValueError(f"{path} has no sentence")
    schema = pq.read_schema(every[0])
    told = json.dumps({"made_from": made_from, "counts": total})
    schema = schema.with_metadata({**schema.metadata, METADATA: told})
    with pq.ParquetWriter(parts / "whole", schema) as writer:
        for part in every.values():
            writer.write_table(pq.read_table(part))
    os.replace(parts / "whole", output)
    for part in every.values():
        part.unlink()
    shutil.rmtree(parts)  # the manifest last: a folder without one is not ours
    return {**total, "words_per_second": speed}


def _treebank(path: str | Path) -> list[Sentence]:
    check_file(path)
    sentences = list(read_conllu(path))
    if any(tag in (None, "_") for s in sentences for tag in s.upos):
        raise ValueError(f"{path} has words without a part of speech (UPOS)")
    return sentences


def _blank(language: str, seed: int) -> SpacyParser:
    from spacy.cli.init_config import init_config
    from spacy.util import fix_random_seed, load_model_from_config
    from thinc.api import Config

    changes = {
        "components.tok2vec.model.encode.width": 128,
        "components.tok2vec.model.embed.rows": [10_000, 2_000, 5_000, 5_000],
        "components.parser.min_action_freq": 5,
        "training.optimizer.use_averages": True,
    }
    fix_random_seed(seed)
    try:
        components = ["morphologizer", "parser"]
        config = init_config(lang=language, pipeline=components, optimize="efficiency")
        config = Config().from_str(config.to_str(), overrides=changes)
        return SpacyParser(load_model_from_config(config, auto_fill=True))
    except ImportError as error:
        raise ValueError(f"spaCy has no pipeline of language {language}: {error}") from None


def _scores(parser: Parser, gold: Sequence[Sentence]) -> dict[str, float]:
    """Percent of all words, punctuation too, with the right head (uas), head and relation (las;
    universal ones, as CoNLL 2018 counts; las_subtypes: whole) and part of speech (upos).
    """
    right: Counter[str] = Counter()
    for found, true in zip(parser.trees(s.words for s in gold), gold, strict=True):
        for i, relation in enumerate(true.deprels):
            head = found.heads[i] == true.heads[i]
            base = found.deprels[i].partition(":")[0] == relation.partition(":")[0]
            right["uas"] += head
            right["las"] += head and base
            right["las_subtypes"] += head and found.deprels[i] == relation
            right["upos"] += found.upos[i] == true.upos[i]
            right["words"] += 1
    words = right.pop("words")
    return {name: round(100 * count / words, 2) for name, count in right.items()}


def train_parser(
    train_file: str | Path,
    validation_file: str | Path,
    output_dir: str | Path,
    *,
    test_file: str | Path | None = None,
    language: str = "en",
    seed: int = 0,
    max_epochs: int = 8,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a tagger and parser on a UD treebank (CoNLL-U) and save the epoch with the best LAS.

    Gives what `parser.json` holds: scores on `test_file` (else on validation), in percent, from
    gold words. Raises ValueError or OSError before any work is done.
    """
    arguments = {name: str(v) if isinstance(v, Path) else v for name, v in locals().items()}
    spacy, folder, begun = _library("spacy"), Path(output_dir), time.process_time()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / SCORES_FILE).is_file():
            raise ValueError(f"{folder} exists and holds no parser: name another --output_dir")
        if not overwrite:
            raise ValueError(f"{folder} holds a parser: name another --output_dir, or --overwrite")
    if max_epochs < 1:
        raise ValueError(f"max_epochs is {max_epochs}; it must be 1 or more")
    train, validation = _treebank(train_file), _treebank(validation_file)
    test = _treebank(test_file) if test_file else validation
    from spacy.training import Example
    from spacy.training.batchers import minibatch_by_words
    from thinc.api import compounding

    parser, rng = _blank(language, seed), random.Random(seed)
    examples, sizes = [], iter(compounding(100.0, 1000.0, 1.001))
    for s in train:
        heads = [head - 1 if head else i for i, head in enumerate(s.heads)]
        deps = ["ROOT" if relation == "root" else relation for relation in s.deprels]
        gold = parser.doc(s.words, pos=list(s.upos), heads=heads, deps=deps)
        examples.append(Example(parser.doc(s.words), gold))
    optimizer = parser.nlp.initialize(lambda: examples)
    rate, total = optimizer.learn_rate, sum(map(len, examples)) * max_epochs
    best: dict[str, Any] = {"las": -1.0}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary,
        tqdm(total=total, unit="word", unit_scale=True) as bar,
    ):
        made = Path(temporary, "parser")
        for epoch in range(1, max_epochs + 1):
            rng.shuffle(examples)
            for batch in minibatch_by_words(examples, sizes):  # type: ignore[arg-type]
                # Straight down to 0: the last epochs settle what the first have found.
                optimizer.learn_rate = rate * (1 - bar.n / total)
                parser.nlp.update(batch, drop=0.2, sgd=optimizer)
                bar.update(sum(map(len, batch)))
            with parser.nlp.use_params(optimizer.averages):
                scores = _scores(parser, validation)
                bar.set_postfix(scores)
                if scores["las"] > best["las"]:
                    best = {"epoch": epoch, **scores}
                    parser.nlp.to_disk(made)
        report = {
            "scored_on": Path(test_file or validation_file).name,
            "scores": _scores(SpacyParser(spacy.load(made)), test),
            "validation": best,
            "cpu_minutes": round((time.process_time() - begun) / 60, 1),
            "arguments": arguments,
            "versions": versions() | {"spacy": spacy.__version__},
        }
        write_json(made / SCORES_FILE, report)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(made, folder)
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """`parse` a file or `train` a parser; errors are one line on stderr and exit code 2."""
    cli = argparse.ArgumentParser(prog="python -m hf_alignmlm.parsing", description=__doc__)
    commands = cli.add_subparsers(dest="command", required=True)
    parse = commands.add_parser("parse", help="write a file with trees, once, resumably")
    parse.add_argument("path", help="text, JSON lines, parquet or CoNLL-U, gzip or not")
    parse.add_argument("--parser", required=True, help="folder of a parser, or stanza:en")
    parse.add_argument("--output", required=True, help="the parquet file to write")
    parse.add_argument("--num_proc", type=int, default=1, help="processes that parse")
    train = commands.add_parser("train", help="train a parser with spaCy on a UD treebank")
    train.add_argument("--train_file", required=True, help="CoNLL-U, plain or .gz")
    train.add_argument("--validation_file", required=True, help="the same, to choose the epoch on")
    train.add_argument("--test_file", help="the same, to score on; default: the validation file")
    train.add_argument("--output_dir", required=True, help="where to save the parser")
    train.add_argument("--language", default="en", help="whose tokenizer splits raw text")
    train.add_argument("--seed", type=int, default=0, help="of weights and order")
    train.add_argument("--max_epochs", type=int, default=8, help="passes over the treebank")
    for command in (parse, train):
        command.add_argument("--overwrite", action="store_true", help="replace an existing output")
    options = vars(cli.parse_args(argv))
    with one_line_errors():
        if options.pop("command") == "train":
            report = train_parser(**options)
            scores = ", ".join(f"{name} {value}" for name, value in report["scores"].items())
            print(f"{report['scored_on']}: {scores}; {report['cpu_minutes']} CPU minutes")
        else:
            counts = parse_file(**options)
            speed = counts.get("words_per_second")
            share = 100 * counts["nonprojective"] / counts["sentences"]
            print(
                f"{options['output']}: {counts['sentences']:,} sentences, {counts['words']:,} "
                f"words, {share:.2f} % non-projective, {counts['empty']:,} empty rows skipped; "
                + ("there before, nothing to do" if speed is None else f"{speed:,.0f} words/s")
            )


if __name__ == "__main__":
    main()
