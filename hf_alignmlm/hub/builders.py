"""Builders: a corpus or a task beside its twin, as parquet that `load_dataset` takes anywhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import Features, Value
from datasets.exceptions import DatasetGenerationError
from transformers.utils import logging

from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.formats import code_digest
from hf_alignmlm.data.rows import row_text, sentences
from hf_alignmlm.data.sources import load_splits
from hf_alignmlm.data.tokenizer import blank_tokenizer, load_tokenizer
from hf_alignmlm.files import digests
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.tasks import TASKS, read_task
from hf_alignmlm.tasks.reading import SPLITS

logger = logging.get_logger(__name__)

# Rows that are read, and rows that are written, at a time.
ROWS = 2_000
Numbered = Iterator[tuple[int, Any]]


def _numbered(rows: Any, starts: Sequence[int], count: int) -> Numbered:
    for start in starts:
        part = rows[start : start + count]
        yield from enumerate(part.to_pylist() if isinstance(part, pa.Table) else part, start)


@lru_cache
def _revision(name: str | None, config: str | None) -> str | None:
    """The commit that a dataset of the Hub stands at."""
    on_hub = name and not Path(name).is_dir()
    return datasets.load_dataset_builder(name, config).hash if on_hub else None


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

    def record(self) -> dict[str, Any]:
        """All that the rows depend on: the options, the code, and the files as they are now."""
        own = fields(self)[len(fields(datasets.BuilderConfig)) :]
        files = [digests(f) for f in (*self.train_file, *self.validation_file, *self.test_file)]
        files += [digests(self.model_name_or_path, "*.json")] if self.model_name_or_path else []
        files += [digests(self.source_name)] if self.source_name else []
        return {
            "options": {field.name: getattr(self, field.name) for field in own},
            "code": code_digest(),
            "files": list(chain.from_iterable(files)),
            "revision": _revision(self.source_name, self.source_config_name),
        }

    def create_config_id(self, config_kwargs: dict[str, Any], *args: Any, **more: Any) -> str:
        # The cache of `datasets` knows this id, not our code nor the files behind the names.
        return super().create_config_id(config_kwargs | self.record(), *args, **more)

    def language(self) -> SyntheticLanguage:
        """The language of that name; the checkpoint's characters, where there is one."""
        name = self.model_name_or_path
        known = SyntheticLanguage.from_pretrained(name) if name else SyntheticLanguage(self.name)
        return replace(known, name=self.name, seed=self.language_seed)

    def words_of(self, language: SyntheticLanguage) -> Callable[[str], list[str]]:
        """A function from text to words, as the checkpoint or cased BERT has them."""
        name = self.model_name_or_path
        tokenizer = load_tokenizer(name, language) if name else blank_tokenizer().to_str()
        return WordEncoder(tokenizer, language).words


class ParallelCorpus(datasets.ArrowBasedBuilder):
    """A corpus and its twin: a row a sentence, `original` and `derived`, words apart by spaces."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = SourceConfig
    kind = "corpus"
    features: dict[str, Any] = dict.fromkeys(("original", "derived"), Value("string"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, dataset_name=self.kind, **kwargs)

    def rows(self) -> dict[str, Any]:
        """The rows of each split; a slice of them is a tuple, or a table of Arrow."""
        config = self.config
        train, validation = load_splits(
            config.train_file,
            config.validation_file,
            dataset_name=config.source_name,
            dataset_config_name=config.source_config_name,
            max_train_samples=config.max_samples,
            max_eval_samples=config.max_samples,
        )
        return {"train": train.with_format("arrow"), "validation": validation.with_format("arrow")}

    def derive(self, split: str, rows: Numbered) -> Iterator[dict[str, Any]]:
        """The rows of the built dataset, from those of the original and their numbers."""
        language, warned = self.config.language(), False
        words_of = self.config.words_of(language)
        for number, row in rows:
            if not language.uses_derived_script(row_text(row)):
                where = f"{split}, row {number + 1}"
                for words, tree, index in sentences(row, number, words_of):
                    order = language.order(words, tree=tree, index=index, where=where)
                    derived = language.spell(" ".join([words[i] for i in order]))
                    yield {"original": " ".join(words), "derived": derived}
            elif not warned:
                text = "%s: row %d already uses the derived script; such rows are skipped"
                logger.warning(text, split, number + 1)
                warned = True

    def _info(self) -> datasets.DatasetInfo:
        description = self.__doc__ or ""
        return datasets.DatasetInfo(description=description, features=Features(self.features))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        generators = []
        for split, rows in self.rows().items():
            # Text without the trees that a language needs fails here, before any work.
            next(self.derive(split, _numbered(rows, [0], 1)), None)
            # Processes share the lists among these arguments, so there is but one.
            starts = list(range(0, len(rows), ROWS))
            arguments = {"split": split, "rows": rows, "starts": starts}
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs=arguments))
        return generators

    def _generate_tables(
        self, split: str, rows: Any, starts: list[int]
    ) -> Iterator[tuple[int, pa.Table]]:
        derived = self.derive(split, _numbered(rows, starts, ROWS))
        try:
            while part := list(islice(derived, ROWS)):
                yield starts[0], pa.Table.from_pylist(part, schema=self.info.features.arrow_schema)
        except (ValueError, OSError) as error:
            # Of any other class, `datasets` and its processes lose the message.
            raise DatasetGenerationError(str(error)) from None


class ParallelTask(ParallelCorpus):
    """A task and its twin: the task's own columns, and `derived_` ones of what changes."""

    def __init__(self, task: str, *args: Any, **kwargs: Any) -> None:
        """`task` is a name of the registry; the rest as every builder of `datasets` takes it."""
        self.kind, self.features = task, TASKS[task].features
        super().__init__(*args, **kwargs)

    def rows(self) -> dict[str, Any]:
        config = self.config
        given = (config.train_file, config.validation_file, config.test_file)
        if any(len(files) > 1 for files in given):
            raise ValueError("a task takes one file for each split")
        data = read_task(
            TASKS[self.kind],
            config.words_of(config.language()),
            files={s: files[0] for s, files in zip(SPLITS, given, strict=True) if files},
            dataset_name=config.source_name,
            dataset_config_name=config.source_config_name,
            max_samples=dict.fromkeys(SPLITS, config.max_samples),
        )
        return {split: tuple(rows) for split, rows in data.rows.items()}

    def derive(self, split: str, rows: Numbered) -> Iterator[dict[str, Any]]:
        task, language = TASKS[self.kind], self.config.language()
        for number, row in rows:
            yield task.built_row(row, task.derive(row, language, number)[0])


ParallelPos = partial(ParallelTask, "pos")
ParallelNer = partial(ParallelTask, "ner")
ParallelNli = partial(ParallelTask, "nli")
