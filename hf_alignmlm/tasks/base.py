"""What a task is, and where its rows come from. Scores are in percent throughout.

A task is a class in a file of its own: it reads a row, derives it, encodes it, decodes what a model
predicts, and scores that. Commands, builders, cards and report follow from the registry.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

from datasets import ClassLabel, Dataset, List, Value, get_dataset_split_names, load_dataset
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase
from transformers.utils import logging

from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.formats import errors_that_name, file_format, file_rows, read_file
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.objectives.base import IGNORE_INDEX
from hf_alignmlm.registry import registrar

logger = logging.get_logger(__name__)

SPLITS = ("train", "validation", "test")
EMBEDDED_ROWS = {"train": 3_000, "validation": 500, "test": 1_000}
TEXT, WORDS = Value("string"), List(Value("string"))
Raw = dict[str, Any]  # a row as its source has it
Split = Callable[[str], list[str]]  # a text to its words
Tags = Sequence[Sequence[str]]
Pieces = list[list[tuple[int, ...]]]  # the token ids of each word of each sentence


@dataclass
class Row:
    """One example: the words and tree of each sentence (a pair has two); its tags, or one label."""

    words: list[list[str]]
    tags: list[str]
    trees: list[Any]
    where: str = ""  # its file and row, for messages


@dataclass
class TaskData:
    """The rows of each split, and how many more had no words or no label."""

    rows: dict[str, list[Row]]
    empty_sentences: int = 0


@dataclass
class InputForm:
    """How words and labels become the numbers of a model, and how many tokens it takes at most."""

    tokenizer: PreTrainedTokenizerBase
    encoder: WordEncoder
    label_ids: dict[str, int]
    max_seq_length: int


@dataclass
class Encoded:
    """The rows' tags, model inputs, the row that each came from, and the words that did not fit."""

    tags: Tags
    features: list[dict[str, Any]]
    row_of: list[int]
    truncated_words: int = 0

    @cached_property
    def dataset(self) -> Dataset:
        """What a model takes of the inputs."""
        names = ("input_ids", "token_type_ids", "labels")
        return Dataset.from_list([{name: f[name] for name in names} for f in self.features])


class Task:
    """A task says what it is by these attributes, and defines the methods that raise here."""

    name: ClassVar[str] = ""  # of --task_name
    title: ClassVar[str] = ""  # for tables and cards
    metric: ClassVar[str] = "accuracy"  # the headline of its scores
    category: ClassVar[str] = ""  # the Hub's
    auto_class: ClassVar[str] = ""  # of the model
    command: ClassVar[str] = ""  # tag or nli
    # The columns of a built dataset, those of the derived language as `derived_…`; for its card.
    features: ClassVar[dict[str, Any]] = {}
    columns_description: ClassVar[str] = ""
    collator: ClassVar[Callable[..., Any]] = DataCollatorWithPadding

    def raw_rows(self, path: str) -> Iterator[Raw]:
        """The rows of a file, as they stand there."""
        is_table = file_format(path) == "parquet"  # which may have classes
        return dataset_rows(read_file(path)) if is_table else file_rows(path)

    def embedded(self, split: str) -> Iterator[Raw]:
        """The rows of a split of the embedded corpus, as a file would have them."""
        raise NotImplementedError

    def read(self, raw: Raw, split: Split, where: str) -> Row | None:
        """One row, checked: None without words or label, ValueError, naming `where`, if unfit."""
        raise NotImplementedError

    def derive(self, row: Row, language: SyntheticLanguage, index: int) -> tuple[Row, int]:
        """The row in the derived language, and how many entities more its order made of them.

        `index` is the row's number in its split; it seeds permutations.
        """
        words, orders = [], []
        for sentence, tree in zip(row.words, row.trees, strict=True):
            orders.append(language.order(sentence, tree=tree, index=index, where=row.where))
            words.append([language.spell(sentence[i]) for i in orders[-1]])
        tags, broken = self.reorder(row.tags, orders)
        return Row(words, tags, []), broken

    def reorder(self, tags: list[str], orders: Sequence[list[int]]) -> tuple[list[str], int]:
        """The tags of reordered sentences, and the entities that broke. A row's label stays."""
        return tags, 0

    def labels(self, train: Sequence[Row]) -> list[str]:
        """What a model can predict, in the order of its label ids."""
        return sorted({tag for row in train for tag in row.tags})

    def encode(
        self, rows: Sequence[Row], form: InputForm, *, language_type: int | None = None
    ) -> Encoded:
        """Rows to token ids and labels.

        A label that training never showed is −100 here and counts as wrong when scored.
        `language_type` is the token type of all tokens, where types tell languages apart.
        """
        result = Encoded([row.tags for row in rows], [], [])
        unknown = form.tokenizer.unk_token_id
        for number, row in enumerate(rows):
            pieces = [[form.encoder.original(w) or (unknown,) for w in ws] for ws in row.words]
            labels = [form.label_ids.get(tag, IGNORE_INDEX) for tag in row.tags]
            features, truncated = self.inputs(pieces, labels, form)
            for feature in features if language_type is not None else ():
                feature["token_type_ids"] = [language_type] * len(feature["input_ids"])
            result.features += features
            result.row_of += [number] * len(features)
            result.truncated_words += truncated
        return result

    def inputs(
        self, pieces: Pieces, labels: list[int], form: InputForm
    ) -> tuple[list[dict[str, Any]], int]:
        """The model inputs of one row, and how many words did not fit.

        `labels` are the ids of the row's tags.
        """
        raise NotImplementedError

    def decode(self, encoded: Encoded, guesses: Any, labels: Sequence[str]) -> list[list[str]]:
        """The tags predicted for each row; `guesses` are the label ids predicted for each input."""
        raise NotImplementedError

    def score(self, predictions: Tags, references: Tags) -> dict[str, float]:
        """The metrics, in percent, of the tags predicted for each row against its own."""
        raise NotImplementedError

    def baseline(self, train: Sequence[Row], test: Sequence[Row]) -> float:
        """The headline, in percent, of one who always guesses the most frequent tag of `train`."""
        [(usual, _)] = Counter(tag for row in train for tag in row.tags).most_common(1)
        tags = [tag for row in test for tag in row.tags]
        return 100 * tags.count(usual) / len(tags)

    def columns(self, row: Row) -> dict[str, Any]:
        """A row as columns of a built dataset, in one language."""
        raise NotImplementedError

    def built_row(self, row: Row, derived: Row) -> dict[str, Any]:
        """A row of a built dataset: what `features` names of the two languages."""
        twin = {f"derived_{name}": value for name, value in self.columns(derived).items()}
        values = self.columns(row) | twin
        return {name: values[name] for name in self.features}


TASKS: dict[str, Task] = {}
register_task = registrar(TASKS, lambda cls: cls())


def first_of(raw: Raw, names: Sequence[str], where: str) -> Any:
    """What stands in the first of these columns (null counts last); ValueError without a column."""
    values = [raw[name] for name in names if name in raw]
    if not values:
        raise ValueError(f"{where}: no column {' or '.join(names)} among {', '.join(raw)}")
    return next((value for value in values if value is not None), None)


def class_names(value: Any, names: list[str]) -> Any:
    """The name of a class, or those of a list of them; −1, null and the like stay as they are."""
    if isinstance(value, list):
        return [class_names(one, names) for one in value]
    return names[value] if value in range(len(names)) else value


def dataset_rows(dataset: Dataset) -> Iterator[Raw]:
    """The rows of a dataset, classes by their names."""
    kinds = {name: getattr(f, "feature", f) for name, f in dataset.features.items()}
    classes = {name: kind.names for name, kind in kinds.items() if isinstance(kind, ClassLabel)}
    for batch in dataset.iter(1_000):
        for name, names in classes.items():
            batch[name] = class_names(batch[name], names)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def hub_rows(
    dataset: str, config: str | None, natural_languages: Sequence[str]
) -> dict[str, Iterator[Raw]]:
    """The rows of a dataset's splits, and those of its tests of other languages, by their names."""
    splits = get_dataset_split_names(dataset, config)
    if not {"train", "test"} <= set(splits):
        raise ValueError(
            f"{dataset} has the splits {', '.join(splits)}: a task needs train and test"
        )
    places = {split: (config, split) for split in SPLITS if split in splits}
    places |= {name: (name, "test") for name in natural_languages}
    with errors_that_name(dataset):
        return {
            name: dataset_rows(load_dataset(dataset, config, split=split))
            for name, (config, split) in places.items()
        }


def read_task(
    task: Task,
    split_words: Split,
    *,
    files: dict[str, str] | None = None,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    natural_languages: Sequence[str] = (),
    max_samples: dict[str, int | None] | None = None,
) -> TaskData:
    """The rows of train, validation and test, from files, the Hub or, with neither, the grammar.

    The test sets of `natural_languages`, other configurations of the dataset, come as splits of
    their names. Rows without words or label are skipped and counted. ValueError for a missing file,
    a split without a usable row, and a row that does not fit (it names file and row).
    """
    files, limits, data = files or {}, max_samples or {}, TaskData({})
    if (natural_languages or dataset_config_name) and not dataset_name:
        raise ValueError("--dataset_config_name and --natural_languages need a --dataset_name")
    if dataset_name and files:
        raise ValueError("give files or a --dataset_name, not both")
    if dataset_name:
        sources = hub_rows(dataset_name, dataset_config_name, natural_languages)
    elif files:
        if not {"train", "test"} <= files.keys():
            raise ValueError("a task needs a train file and a test file")
        sources = {split: task.raw_rows(files[split]) for split in SPLITS if split in files}
    else:
        sources = {split: task.embedded(split) for split in SPLITS}
    for split, source in sources.items():
        where = f"{files.get(split, dataset_name or 'embedded')}, {split}"
        numbered = enumerate(islice(source, limits.get(split)), 1)
        rows = [task.read(raw, split_words, f"{where} row {number}") for number, raw in numbered]
        data.rows[split] = [row for row in rows if row is not None]
        data.empty_sentences += len(rows) - len(data.rows[split])
        if not data.rows[split]:
            raise ValueError(
                f"{where}: no usable row for {task.name}, none of {len(rows)} has words and labels"
            )
    if data.empty_sentences:
        logger.warning("Skipped %d row(s) without words or label", data.empty_sentences)
    return data
