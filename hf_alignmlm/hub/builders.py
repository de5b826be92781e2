"""Builders: a corpus or a task beside its twin, as parquet that `load_dataset` takes anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import Features, Value
from transformers.utils import logging

from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.sources import code_digest, load_splits, row_text, sentences
from hf_alignmlm.data.tokenizer import blank_tokenizer, load_tokenizer
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.tasks import TASKS, read_task
from hf_alignmlm.tasks.base import SPLITS

logger = logging.get_logger(__name__)

# Rows that become one table; and the most parts of a split that processes share, in order.
ROWS, PARTS = 2_000, 64
# Rows of a split, and the range of their numbers, to rows of the built dataset.
Derive = Callable[[Any, range], list[dict[str, Any]]]


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
        stats = [(path.name, path.stat()) for path in files]
        stamps = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
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


class ParallelBuilder(datasets.ArrowBasedBuilder):
    """A split's rows, derived in parts, in order."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = SourceConfig
    kind = "corpus"
    features: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, dataset_name=self.kind, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.__doc__ or "", features=Features(self.features)
        )

    def _generators(self, splits: dict[str, Any]) -> list[datasets.SplitGenerator]:
        generators = []
        for name, rows in splits.items():
            # Text without the trees that a language needs fails here, before any work.
            self._deriver(name)(rows, range(1))
            step = max(ROWS, -(-len(rows) // PARTS))
            # Processes share the lists among these arguments, so there is but one.
            parts = [(i, min(i + step, len(rows))) for i in range(0, len(rows), step)]
            arguments = {"name": name, "rows": rows, "parts": parts}
            generators.append(datasets.SplitGenerator(name=name, gen_kwargs=arguments))
        return generators

    def _generate_tables(
        self, name: str, rows: Any, parts: list[tuple[int, int]]
    ) -> Iterator[tuple[int, pa.Table]]:
        schema, derive = self.info.features.arrow_schema, self._deriver(name)
        starts = [(i, last) for first, last in parts for i in range(first, last, ROWS)]
        for number, (start, last) in enumerate(starts, parts[0][0]):
            derived = derive(rows, range(start, min(start + ROWS, last)))
            yield number, pa.Table.from_pylist(derived, schema=schema)

    def _deriver(self, name: str) -> Derive:
        raise NotImplementedError


class ParallelCorpus(ParallelBuilder):
    """A corpus and its twin: a row a sentence, `original` and `derived`, words apart by spaces."""

    features = dict.fromkeys(("original", "derived"), Value("string"))

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

    def _deriver(self, name: str) -> Derive:
        language = self.config.language()
        split, skipped = self.config.split_words(language), list[int]()

        def derive(rows: Any, numbers: range) -> list[dict[str, Any]]:
            built = []
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
                where = f"{name}, row {number + 1}"
                for words, tree, index in sentences(row, number, split):
                    order = language.order(words, tree=tree, index=index, where=where)
                    derived = language.spell(" ".join([words[i] for i in order]))
                    built.append({"original": " ".join(words), "derived": derived})
            return built

        return derive


class ParallelTask(ParallelBuilder):
    """A task and its twin: the task's own columns, and `derived_` ones of what changes."""

    def __init__(self, task: str, *args: Any, **kwargs: Any) -> None:
        """`task` is a name of the registry; the rest as every builder of `datasets` takes it."""
        self.kind, self.features = task, TASKS[task].features
        super().__init__(*args, **kwargs)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        config = self.config
        given = (config.train_file, config.validation_file, config.test_file)
        if any(len(files) > 1 for files in given):
            raise ValueError("a task takes one file for each split")
        data = read_task(
            TASKS[self.kind],
            config.split_words(config.language()),
            files={s: files[0] for s, files in zip(SPLITS, given, strict=True) if files},
            dataset_name=config.source_name,
            dataset_config_name=config.source_config_name,
            max_samples=dict.fromkeys(SPLITS, config.max_samples),
        )
        return self._generators({split: tuple(rows) for split, rows in data.rows.items()})

    def _deriver(self, name: str) -> Derive:
        task, language = TASKS[self.kind], self.config.language()

        def derive(rows: Any, numbers: range) -> list[dict[str, Any]]:
            return [task.built_row(rows[i], task.derive(rows[i], language, i)[0]) for i in numbers]

        return derive


ParallelPos = partial(ParallelTask, "pos")
ParallelNer = partial(ParallelTask, "ner")
ParallelNli = partial(ParallelTask, "nli")
