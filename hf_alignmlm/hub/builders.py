"""Builders: a corpus or a task beside its twin, as parquet that `load_dataset` takes anywhere.

alignmlm corpus --language trans_inv --train_file my.txt --output_dir DIR
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as parquet
from datasets import ClassLabel, Features, List, Value
from transformers.utils import logging

from hf_alignmlm.arguments import one_line_errors, option, parse, versions
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.sources import check_file, code_digest, load_splits, row_text, sentences
from hf_alignmlm.data.tokenizer import blank_tokenizer, load_tokenizer
from hf_alignmlm.files import write_json, write_text
from hf_alignmlm.hub.cards import (
    BUILD_FILE,
    CARD_FILE,
    dataset_card,
    read_builds,
    without_folders,
)
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.tasks.base import NLI_LABELS, SPLITS, TASKS, derive_row, read_task

logger = logging.get_logger(__name__)


TEXT, WORDS = Value("string"), List(Value("string"))


TAGS = {"pos": "upos", "ner": "ner_tags"}


FEATURES = {
    "corpus": {"original": TEXT, "derived": TEXT},
    "pos": {"tokens": WORDS, "upos": WORDS, "derived_tokens": WORDS, "derived_upos": WORDS},
    "ner": {
        **{"tokens": WORDS, "ner_tags": WORDS},
        **{"derived_tokens": WORDS, "derived_ner_tags": WORDS},
    },
    "nli": {
        **{"premise": TEXT, "hypothesis": TEXT, "label": ClassLabel(names=list(NLI_LABELS))},
        **{"derived_premise": TEXT, "derived_hypothesis": TEXT},
    },
}


# Rows that become one table; and parts of a split that processes share, in order.
ROWS, PARTS = 2_000, 64


@dataclass
class SourceConfig(datasets.BuilderConfig):
    """Where the original comes from; the configuration's name is that of the language.

    With neither files nor a dataset (`source_name`), the embedded corpus. `model_name_or_path` is
    a checkpoint whose tokenizer splits the words and whose characters the language spells, so that
    its ids of the derived text are those of the original + V; without, cased BERT's words.
    """

    train_file: Sequence[str] = ()
    validation_file: Sequence[str] = ()
    test_file: Sequence[str] = ()
    source_name: str | None = None
    source_config_name: str | None = None
    language_seed: int = 0
    model_name_or_path: str | None = None
    max_samples: int | None = None

    def digests(self) -> dict[str, Any]:
        """What the rows depend on beside the options: the code, and the files as they are now."""
        files = [Path(f) for f in (*self.train_file, *self.validation_file, *self.test_file)]
        for folder, pattern in ((self.model_name_or_path, "*.json"), (self.source_name, "**/*")):
            files += sorted(p for p in Path(folder).glob(pattern) if p.is_file()) if folder else []
        found = [(path, path.stat()) for path in files]
        stamps = [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in found]
        return {"code": code_digest(), "files": stamps}

    def create_config_id(
        self, config_kwargs: dict[str, Any], custom_features: Features | None = None
    ) -> str:
        # The cache of `datasets` knows this id, not our code nor the files behind the names.
        return super().create_config_id(config_kwargs | self.digests(), custom_features)

    def language(self) -> SyntheticLanguage:
        """The language of that name; the checkpoint's characters, where there is one."""
        if self.model_name_or_path:
            known = SyntheticLanguage.from_pretrained(self.model_name_or_path)
            return replace(known, name=self.name, seed=self.language_seed)
        return SyntheticLanguage.from_name(self.name, seed=self.language_seed)

    def split_words(self, language: SyntheticLanguage) -> Callable[[str], list[str]]:
        """Text to words, as the checkpoint or cased BERT has them."""
        name = self.model_name_or_path
        tokenizer = load_tokenizer(name) if name else blank_tokenizer().to_str()
        return WordEncoder(tokenizer, language).words


class _Builder(datasets.ArrowBasedBuilder):
    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = SourceConfig
    kind = "corpus"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, dataset_name=self.kind, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.__doc__ or "", features=Features(FEATURES[self.kind])
        )

    def _generators(self, splits: dict[str, Any]) -> list[datasets.SplitGenerator]:
        generators = []
        for name, rows in splits.items():
            # Text without the trees that a language needs fails here, before any work.
            self._deriver(name, self.config.language())(rows, range(1))
            step = max(ROWS, -(-len(rows) // PARTS))
            parts = [(i, min(i + step, len(rows))) for i in range(0, len(rows), step)]
            arguments = {"name": name, "rows": rows, "parts": parts}
            generators.append(datasets.SplitGenerator(name=name, gen_kwargs=arguments))
        return generators

    def _generate_tables(
        self, name: str, rows: Any, parts: list[tuple[int, int]]
    ) -> Iterator[tuple[int, pa.Table]]:
        schema = self.info.features.arrow_schema
        language = self.config.language()
        derive = self._deriver(name, language)
        number = parts[0][0]
        for first, last in parts:
            for start in range(first, last, ROWS):
                found = derive(rows, range(start, min(start + ROWS, last)))
                yield number, pa.Table.from_pylist(found, schema=schema)
                number += 1

    def _deriver(
        self, name: str, language: SyntheticLanguage
    ) -> Callable[[Any, range], list[dict[str, Any]]]:
        raise NotImplementedError


class ParallelCorpus(_Builder):
    """A corpus and its twin: a row a sentence, `original` and `derived`, words apart by spaces."""

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        config = self.config
        train, validation = load_splits(
            config.train_file,
            config.validation_file,
            dataset_name=config.source_name,
            dataset_config_name=config.source_config_name,
            max_train_samples=config.max_samples,
            max_eval_samples=config.max_samples,
        )
        return self._generators({"train": train, "validation": validation})

    def _deriver(
        self, name: str, language: SyntheticLanguage
    ) -> Callable[[Any, range], list[dict[str, Any]]]:
        split, skipped = self.config.split_words(language), list[int]()

        def derive(rows: Any, numbers: range) -> list[dict[str, Any]]:
            found = []
            batch = rows[numbers.start : numbers.stop]
            for position, number in enumerate(numbers):
                row = {column: values[position] for column, values in batch.items()}
                if language.uses_derived_script(row_text(row)):
                    skipped.append(number)
                    if len(skipped) == 1:
                        logger.warning(
                            "%s: row %d already uses the derived script; such rows are skipped",
                            *(name, number + 1),
                        )
                    continue
                for words, tree, index in sentences(row, number, split):
                    order = language.order(words, tree=tree, index=index)
                    derived = language.spell(" ".join([words[i] for i in order]))
                    found.append({"original": " ".join(words), "derived": derived})
            return found

        return derive


class ParallelTask(_Builder):
    """A task and its twin: the task's own columns, and `derived_` ones of what changes."""

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        config = self.config
        given = (config.train_file, config.validation_file, config.test_file)
        if any(len(files) > 1 for files in given):
            raise ValueError("a task takes one file for each split")
        data = read_task(
            self.kind,
            config.split_words(config.language()),
            files={s: files[0] for s, files in zip(SPLITS, given, strict=True) if files},
            dataset_name=config.source_name,
            dataset_config_name=config.source_config_name,
            max_samples=dict.fromkeys(SPLITS, config.max_samples),
        )
        return self._generators({split: data.rows[split] for split in SPLITS if split in data.rows})

    def _deriver(
        self, name: str, language: SyntheticLanguage
    ) -> Callable[[Any, range], list[dict[str, Any]]]:
        def derive(rows: Any, numbers: range) -> list[dict[str, Any]]:
            return [
                self._columns(rows[i]) | self._columns(twin, "derived_")
                for i in numbers
                for twin in [derive_row(rows[i], language, i, self.kind)[0]]
            ]

        return derive

    def _columns(self, row: Any, prefix: str = "") -> dict[str, Any]:
        if self.kind != "nli":
            return {f"{prefix}tokens": row.words[0], f"{prefix}{TAGS[self.kind]}": row.tags}
        premise, hypothesis = map(" ".join, row.words)
        texts = {f"{prefix}premise": premise, f"{prefix}hypothesis": hypothesis}
        return texts if prefix else texts | {"label": NLI_LABELS.index(row.tags[0])}


class ParallelPos(ParallelTask):
    """Part-of-speech tagging: `tokens`, `upos` and their twins."""

    kind = "pos"


class ParallelNer(ParallelTask):
    """Named entities in IOB2: `tokens`, `ner_tags` and their twins."""

    kind = "ner"


class ParallelNli(ParallelTask):
    """Inference: `premise`, `hypothesis`, `label`, and the twins of the texts."""

    kind = "nli"


BUILDERS = {b.kind: b for b in (ParallelCorpus, ParallelPos, ParallelNer, ParallelNli)}


@dataclass
class BuildArguments:
    """What to build, from what, and where to. With no source, the embedded corpus."""

    output_dir: str = option("", "Folder of the dataset; each language is a configuration of it.")
    language: list[str] = option(["trans_inv"], "Derived languages, as trans trans_inv.", nargs="+")
    task_name: str | None = option(None, f"A task instead of a corpus: {', '.join(TASKS)}.")
    train_file: list[str] = option(
        [], "Text, JSON lines, parquet or CoNLL-U files, gzip or not.", nargs="+"
    )
    validation_file: list[str] = option([], "The same, of the validation set.", nargs="+")
    test_file: list[str] = option([], "The same, of a task's test set.", nargs="+")
    dataset_name: str | None = option(None, "Corpus or task on the Hub, or a folder of parquet.")
    dataset_config_name: str | None = option(None, "Its configuration.")
    language_seed: int = option(0, "Seed of the language's permutations and shared words.")
    model_name_or_path: str | None = option(
        None, "Checkpoint whose words and characters to follow, so that its ids fit exactly."
    )
    max_samples: int | None = option(None, "Use only this many rows of each split.")
    num_proc: int | None = option(None, "Processes.")
    license: str = option("unknown", "The text's licence, for the card, as cc-by-sa-4.0.")
    overwrite_output_dir: bool = option(
        False, "Build again what lies there of other options, files or code."
    )


def build(arguments: BuildArguments) -> list[Path]:
    """Write each language as a configuration of the folder, and the folder's card.

    A configuration that lies there is kept where code, options and files are the same, and refused
    where they are not, unless told to overwrite. `ValueError` in one line for what cannot be built.
    """
    folder, kind = Path(arguments.output_dir), arguments.task_name or "corpus"
    if not arguments.output_dir:
        raise ValueError("name a folder with --output_dir")
    if kind not in BUILDERS:
        raise ValueError(f"unknown task_name {kind!r}: known are {', '.join(TASKS)}")
    for path in [*arguments.train_file, *arguments.validation_file, *arguments.test_file]:
        check_file(path)
    known = {f.name for f in fields(SourceConfig)} & {f.name for f in fields(BuildArguments)}
    options = {name: getattr(arguments, name) for name in sorted(known)}
    options["source_name"] = arguments.dataset_name
    options["source_config_name"] = arguments.dataset_config_name
    builders = {
        name: BUILDERS[kind](config_name=name, **options)
        for name in dict.fromkeys(SyntheticLanguage(n).name for n in arguments.language)
    }
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder as --output_dir")
    digests = next(iter(builders.values())).config.digests()
    wanted = {"kind": kind, "options": without_folders(options), **digests}
    before = read_builds(folder)
    kept = {name for name, built in before.items() if built.items() >= wanted.items()}
    card = folder / CARD_FILE
    overwrite = arguments.overwrite_output_dir
    if (
        card.exists()
        and not overwrite
        and card.read_text() != str(dataset_card(before, folder.name))
    ):
        raise ValueError(
            f"{card} is not as it was built: give --overwrite_output_dir to replace it"
        )
    if other := {built["kind"] for built in before.values()} - {kind}:
        raise ValueError(f"{folder} holds {other.pop()}, not {kind}: name another folder")
    for name in builders:
        if name not in before and (folder / name).exists():
            raise ValueError(f"{folder / name} exists and is no build of ours: name another folder")
        if name in before and name not in kept and not overwrite:
            raise ValueError(
                f"{folder / name} was built from other options, files or code: name another "
                "--output_dir, or give --overwrite_output_dir"
            )
    for name, builder in builders.items():
        if name in kept:
            print(f"{folder / name} holds this build already", flush=True)
        else:
            _build_one(builder, folder / name, wanted, arguments)
    write_text(card, str(dataset_card(read_builds(folder), folder.name)))
    return [folder / name for name in builders]


def _build_one(
    builder: _Builder, target: Path, wanted: dict[str, Any], arguments: BuildArguments
) -> None:
    scratch = target.parent / ".partial"
    try:
        _write(builder, scratch / target.name, wanted, arguments)
        shutil.rmtree(target, ignore_errors=True)
        (scratch / target.name).rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    rows = (f"{s} {i.num_examples:,} rows" for s, i in (builder.info.splits or {}).items())
    print(f"{target}: {', '.join(rows)}", flush=True)


def _write(
    builder: _Builder, partial: Path, wanted: dict[str, Any], arguments: BuildArguments
) -> None:
    builder.download_and_prepare(
        str(partial), file_format="parquet", num_proc=arguments.num_proc, max_shard_size="200MB"
    )
    splits = builder.info.splits or {}
    first = next(partial.glob(f"{builder.kind}-train*.parquet"))
    example = next(parquet.ParquetFile(first).iter_batches(batch_size=1)).to_pylist()[0]
    write_json(
        partial / BUILD_FILE,
        {
            **wanted,
            "language": asdict(builder.config.language()),
            "splits": {split: info.num_examples for split, info in splits.items()},
            "example": example,
            "license": arguments.license,
            "versions": versions(),
        },
    )


def main(argv: Sequence[str] | None = None) -> None:
    """`alignmlm corpus`: builds."""
    with one_line_errors():
        (arguments,), _ = parse([BuildArguments], argv)
        build(arguments)
