"""What a task is, and where its rows come from. Scores are in percent throughout.

A task is a class in a file of its own: it reads a row, derives it, encodes it, decodes what a model
predicts, and scores that. Commands, builders, cards and report follow from the registry.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any, ClassVar

from datasets import Dataset, List, Value
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase
from transformers.utils import logging

from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.formats import file_format, file_rows, read_file
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.objectives.base import IGNORE_INDEX
from hf_alignmlm.registry import registrar
from hf_alignmlm.tasks.reading import REQUIRED, Raw, dataset_rows, hub_rows

logger = logging.get_logger(__name__)

EMBEDDED_ROWS = {"train": 3_000, "validation": 500, "test": 1_000}
TEXT, WORDS = Value("string"), List(Value("string"))
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
    """How words and labels become the numbers of a model, and how many tokens it takes at most.

    `token_types` says whether the model has more than one token type.
    """

    tokenizer: PreTrainedTokenizerBase
    encoder: WordEncoder
    label_ids: dict[str, int]
    max_seq_length: int
    token_types: bool = True

    @cached_property
    def specials(self) -> dict[int, list[list[int]]]:
        """The special tokens before, between and after one sentence and two, by that number.

        They are the tokenizer's own: for two sentences [CLS] a [SEP] b [SEP], or <s> a </s></s> b
        </s>. A tokenizer that adds none has the words between its cls and sep.
        """
        return {count: self._specials(count) for count in (1, 2)}

    def _specials(self, count: int) -> list[list[int]]:
        probe, groups = self.tokenizer(*["a"] * count), list[list[int]]([[]])
        for token, sentence in zip(probe["input_ids"], probe.sequence_ids(0), strict=True):
            if sentence is None:
                groups[-1].append(token)
            elif len(groups) == sentence + 1:  # the first piece of this sentence
                groups.append([])
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        return groups if any(groups) else [[cls], *[[sep]] * count]

    def room(self, count: int) -> int:
        """How many pieces of so many sentences an input holds, beside the special tokens."""
        return self.max_seq_length - sum(map(len, self.specials[count]))

    def framed(self, *sentences: Sequence[Sequence[int]]) -> dict[str, Any]:
        """The words of one sentence or two among the special tokens, and each token's sentence."""
        start, *ends = self.specials[len(sentences)]
        ids, types = [*start], [0] * len(start)
        for number, (sentence, end) in enumerate(zip(sentences, ends, strict=True)):
            ids += [*chain(*sentence), *end]
            types += [number] * (len(ids) - len(types))
        return {"input_ids": ids, "token_type_ids": types}


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
        return Dataset.from_list([{n: f[n] for n in names if n in f} for f in self.features])


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

    def mix(self, row: Row, other: Row) -> Row:
        """A row whose last sentence is another language's, of a task on pairs of sentences."""
        raise NotImplementedError

    def encode(
        self, rows: Sequence[Row], form: InputForm, *, language_types: Sequence[int] = ()
    ) -> Encoded:
        """Rows to token ids and labels.

        A label that training never showed is −100 here and counts as wrong when scored.
        `language_types` are the token types of the first and of the second sentence, where types
        tell languages apart.
        """
        result = Encoded([row.tags for row in rows], [], [])
        unknown = form.tokenizer.unk_token_id
        if unknown is None:
            unknown = form.tokenizer.mask_token_id
        for number, row in enumerate(rows):
            pieces = [[form.encoder.original(w) or (unknown,) for w in ws] for ws in row.words]
            labels = [form.label_ids.get(tag, IGNORE_INDEX) for tag in row.tags]
            features, truncated = self.inputs(pieces, labels, form)
            for feature in features:
                sentences = feature.pop("token_type_ids")
                if form.token_types:
                    types = [language_types[n] for n in sentences] if language_types else sentences
                    feature["token_type_ids"] = types
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


def read_task(
    task: Task,
    split_words: Split,
    *,
    files: dict[str, str] | None = None,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    max_samples: dict[str, int | None] | None = None,
    splits: Mapping[str, bool] = REQUIRED,
) -> TaskData:
    """The rows of these splits, from files, the Hub or, with neither, the grammar.

    `splits` says of each whether it must be there. Rows without words or label are skipped and
    counted. ValueError for a split that is missing, one without a usable row, and a row that does
    not fit (it names file and row).
    """
    files, limits, data = files or {}, max_samples or {}, TaskData({})
    if dataset_config_name and not dataset_name:
        raise ValueError("--dataset_config_name needs a --dataset_name")
    if dataset_name and files:
        raise ValueError("give files or a --dataset_name, not both")
    place = ", ".join(filter(None, (dataset_name, dataset_config_name))) or "embedded"
    if dataset_name:
        sources = hub_rows(dataset_name, dataset_config_name, splits)
    elif files:
        needed = [split for split, required in splits.items() if required]
        if not {*needed} <= files.keys():
            raise ValueError(f"a task needs a {' file and a '.join(needed)} file")
        sources = {split: task.raw_rows(files[split]) for split in splits if split in files}
    else:
        sources = {split: task.embedded(split) for split in splits}
    for split, source in sources.items():
        where = f"{files.get(split, place)}, {split}"
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
