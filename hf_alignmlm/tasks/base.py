"""Tasks: POS, NER and NLI read from anywhere, derived, encoded and scored; percent throughout."""

from __future__ import annotations

import math
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import datasets
import evaluate
import numpy as np
from datasets import Dataset, load_dataset
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_alignmlm import minienglish
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.sources import TREE_COLUMNS, check_file, file_format, read_file, row_tree
from hf_alignmlm.files import open_file
from hf_alignmlm.languages.synthetic import SyntheticLanguage

logger = logging.get_logger(__name__)


class _Facts(NamedTuple):
    """A stand-in for the tasks' classes: what reports and cards read off them."""

    title: str
    category: str
    auto_class: str
    columns_description: str


TASKS = {
    "pos": _Facts(
        "POS",
        "token-classification",
        "AutoModelForTokenClassification",
        "parts of speech, `tokens` and `upos`, with `derived_tokens` and `derived_upos` beside",
    ),
    "ner": _Facts(
        "NER",
        "token-classification",
        "AutoModelForTokenClassification",
        "entities, `tokens` and `ner_tags`, with `derived_tokens` and `derived_ner_tags` beside",
    ),
    "nli": _Facts(
        "NLI",
        "text-classification",
        "AutoModelForSequenceClassification",
        "inference, `premise`, `hypothesis` and `label`, with `derived_premise` and "
        "`derived_hypothesis` beside",
    ),
}


HEADLINE = {"pos": "accuracy", "ner": "seqeval_f1", "nli": "accuracy"}


SPLITS = ("train", "validation", "test")


EMBEDDED_ROWS = {"train": 3_000, "validation": 500, "test": 1_000}


TAG_COLUMNS = {
    "pos": ("upos", "pos_tags", "tags"),
    "ner": ("ner_tags", "tags"),
}


NLI_LABELS = ("entailment", "neutral", "contradiction")


@dataclass
class Row:
    """One example of a task: words (two lists for NLI) with tags, or a label."""

    words: list[list[str]]
    tags: list[str]
    trees: list[Any]


@dataclass
class TaskData:
    """The rows of each split, and what was skipped on the way."""

    rows: dict[str, list[Row]]
    empty_sentences: int = 0


def _columns_file(path: str) -> Iterator[dict[str, Any]]:
    """Sentences of a column file: a word first and its tag last on a line, blank lines between."""
    words: list[str] = []
    tags: list[str] = []
    with open_file(path) as stream:
        for number, line in enumerate([*stream, ""], 1):
            columns = line.split()
            if columns and columns[0] == "-DOCSTART-":
                continue
            if len(columns) == 1:
                raise ValueError(f"{path}, line {number}: a word without a tag")
            if columns:
                words.append(columns[0])
                tags.append(columns[-1])
            elif words:
                yield {"tokens": words, "tags": tags}
                words, tags = [], []


def _names(column: Sequence[Any], feature: Any) -> list[Any]:
    """Class indices as their names."""
    feature = getattr(feature, "feature", feature)
    if not isinstance(feature, datasets.ClassLabel):
        return list(column)
    named = feature.int2str
    return [named(v) if isinstance(v, int) else [named(i) for i in v] for v in column]


def _read_rows(path: str, task: str) -> Iterator[dict[str, Any]]:
    kind = file_format(path)
    if kind in ("conllu", "text"):
        check_file(path)
    if kind == "conllu":
        if task != "pos":
            raise ValueError(f"{path}: CoNLL-U has parts of speech, not the tags of {task}")
        for s in read_conllu(path, trees=False):
            yield {"tokens": s.words, "upos": s.upos, "heads": s.heads, "deprels": s.deprels}
    elif kind == "text":
        yield from _columns_file(path)
    else:
        yield from _dataset_rows(read_file(path))


def _dataset_rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    columns = {name: _names(dataset[name], dataset.features[name]) for name in dataset.column_names}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _first_of(row: dict[str, Any], names: Sequence[str], where: str) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise ValueError(f"{where}: no column {' or '.join(names)} among {', '.join(row)}")


def _tagging_row(raw: dict[str, Any], task: str, where: str) -> Row | None:
    words = list(_first_of(raw, ("tokens", "words"), where))
    tags = list(_first_of(raw, TAG_COLUMNS[task], where))
    if len(words) != len(tags):
        raise ValueError(f"{where}: {len(words)} words but {len(tags)} tags")
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError(f"{where}: tags must be strings, or classes with names")
    return Row([words], iob2(tags) if task == "ner" else tags, [row_tree(raw)]) if words else None


def _nli_row(raw: dict[str, Any], split: Callable[[str], list[str]], where: str) -> Row | None:
    texts = [_first_of(raw, (name,), where) for name in ("premise", "hypothesis")]
    label = _first_of(raw, ("label",), where)
    if isinstance(label, int):
        if label == -1:
            return None
        if not 0 <= label < len(NLI_LABELS):
            raise ValueError(f"{where}: label {label} is not one of 0, 1, 2")
        label = NLI_LABELS[label]
    words = [split(text) if isinstance(text, str) else list(text) for text in texts]
    trees = [row_tree(raw, "premise_"), row_tree(raw, "hypothesis_")]
    return Row(words, [label], trees) if all(words) else None


def _embedded(task: str, split: str) -> Iterator[dict[str, Any]]:
    if task == "nli":
        for pair in minienglish.pairs(EMBEDDED_ROWS[split], split=f"task-{split}"):
            row: dict[str, Any] = {"label": pair.label}
            for part in ("premise", "hypothesis"):
                sentence = getattr(pair, part)
                row[part] = sentence.words
                row |= {f"{part}_{name}": getattr(sentence, name) for name in TREE_COLUMNS}
            yield row
        return
    for s in minienglish.sentences(EMBEDDED_ROWS[split], split=f"task-{split}"):
        tree = {"heads": s.heads, "deprels": s.deprels, "upos": s.upos}
        yield {"tokens": s.words, "ner_tags": s.ner_tags, **tree}


def read_task(
    task: str,
    split_words: Callable[[str], list[str]],
    *,
    files: dict[str, str] | None = None,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    natural_languages: Sequence[str] = (),
    max_samples: dict[str, int | None] | None = None,
) -> TaskData:
    """The rows of train, validation and test, from files, the Hub or, with neither, the grammar.

    Tagging: CoNLL-U, JSON lines or parquet with `tokens` and tags, or columns (IOB1 or IOB2); NLI:
    `premise`, `hypothesis` and `label`, texts (whose words `split_words` gives) or words. Trees,
    for languages that need them, are `heads`, `deprels` and `upos`, in NLI with `premise_` and
    `hypothesis_` before them. Sentences without a word are skipped and counted; a file
    whose rows do not fit is a `ValueError` that names the row. The test sets of
    `natural_languages`, other configurations of the dataset, come as splits of their names.
    """
    files = files or {}
    rows: dict[str, list[Row]] = {}
    empty = 0
    if natural_languages and not dataset_name:
        raise ValueError("natural languages are configurations of a --dataset_name")
    if (files or dataset_name) and not (dataset_name or {"train", "test"} <= files.keys()):
        raise ValueError("a task needs a train file and a test file")
    for split in (*SPLITS, *natural_languages):
        if dataset_name:
            natural = split not in SPLITS
            source = (dataset_name, split if natural else dataset_config_name)
            raw = _dataset_rows(load_dataset(*source, split="test" if natural else split))
        elif files and split not in files:
            continue
        else:
            raw = _read_rows(files[split], task) if files else _embedded(task, split)
        rows[split] = []
        limit = (max_samples or {}).get(split)
        for number, values in enumerate(raw, 1):
            if limit is not None and number > limit:
                break
            where = f"{files.get(split, dataset_name or 'embedded')}, {split} row {number}"
            make = _nli_row(values, split_words, where) if task == "nli" else None
            row = make if task == "nli" else _tagging_row(values, task, where)
            empty += row is None
            rows[split] += [row] if row is not None else []
        if not rows[split]:
            raise ValueError(f"the {split} set of {task} has no usable row")
    if empty:
        logger.warning("Skipped %d row(s) without words or label", empty)
    return TaskData(rows, empty)


def iob2(tags: Sequence[str]) -> list[str]:
    """Entity tags in strict IOB2, from IOB1 or IOB2: each entity starts with B-."""
    result = []
    before = "O"
    for tag in tags:
        continues = before != "O" and before[2:] == tag[2:]
        result.append("B-" + tag[2:] if tag.startswith("I-") and not continues else tag)
        before = tag
    return result


def reorder_tags(tags: Sequence[str], order: Sequence[int]) -> tuple[list[str], int]:
    """Strict IOB2 tags of words put in another order, and the number of entities it broke.

    Each unbroken run of one entity's words becomes B-, I-, I-, whatever the run's direction.
    """
    entity, number = [], 0
    for tag in tags:
        number += tag.startswith("B-")
        entity.append(number if tag != "O" else 0)
    moved = [entity[i] for i in order]
    result = [
        "O" if not now else ("I-" if now == before else "B-") + tags[i][2:]
        for i, now, before in zip(order, moved, [0, *moved], strict=False)
    ]
    return result, sum(tag.startswith("B-") for tag in result) - number


def derive_row(row: Row, language: SyntheticLanguage, index: int, task: str) -> tuple[Row, int]:
    """The row in the derived language, and the number of entities that the order broke."""
    orders = [
        language.order(words, tree=tree, index=index)
        for words, tree in zip(row.words, row.trees, strict=True)
    ]
    words = [
        [language.spell(words[i]) for i in order]
        for words, order in zip(row.words, orders, strict=True)
    ]
    if task == "nli":
        return replace(row, words=words), 0
    if task == "ner":
        tags, broken = reorder_tags(row.tags, orders[0])
        return Row(words, tags, []), broken
    return Row(words, [row.tags[i] for i in orders[0]], []), 0


def _windows(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Cut words of these lengths into the fewest runs of at most `room` pieces, about even."""
    total = sum(lengths)
    target = math.ceil(total / math.ceil(total / room)) if total > room else room
    windows, start, filled = [], 0, 0
    for position, length in enumerate(lengths):
        if filled and (filled + length > room or filled >= target):
            windows.append((start, position))
            start, filled = position, 0
        filled += length
    return [*windows, (start, len(lengths))]


@dataclass
class Encoded:
    """Model inputs, the row each came from, and the words that did not fit."""

    features: list[dict[str, Any]]
    row_of: list[int]
    truncated_words: int = 0


def encode(
    rows: Sequence[Row],
    task: str,
    tokenizer: PreTrainedTokenizerBase,
    encoder: WordEncoder,
    label_ids: dict[str, int],
    *,
    max_seq_length: int,
    language_type: int | None = None,
) -> Encoded:
    """Rows to token ids; tags stand at the first piece of a word, −100 elsewhere.

    A sentence longer than `max_seq_length` becomes several inputs, so that no word goes without a
    tag; an NLI pair loses the last words of its longer part, counted. A tag or label that training
    never showed is −100 here and counts as wrong when scored. `language_type` is the token type of
    all tokens where types tell languages apart; None leaves types to the two parts of a pair.
    """
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    unknown = tokenizer.unk_token_id
    result = Encoded([], [])
    for number, row in enumerate(rows):
        pieces = [[list(encoder.original(w)) or [unknown] for w in words] for words in row.words]
        if task == "nli":
            label = label_ids.get(row.tags[0], -100)
            while sum(map(len, pieces[0] + pieces[1])) > max_seq_length - 3:
                longer = max(pieces, key=lambda part: sum(map(len, part)))
                longer.pop()
                result.truncated_words += 1
            first, second = ([i for word in part for i in word] for part in pieces)
            ids = [cls, *first, sep, *second, sep]
            types = [0] * (len(first) + 2) + [1] * (len(second) + 1)
            result.features.append({"input_ids": ids, "token_type_ids": types, "labels": label})
            result.row_of.append(number)
        else:
            room = max_seq_length - 2
            words = [word[:room] for word in pieces[0]]
            for start, stop in _windows([len(word) for word in words], room):
                ids, labels = [cls], [-100]
                for word, tag in zip(words[start:stop], row.tags[start:stop], strict=True):
                    ids += word
                    labels += [label_ids.get(tag, -100)] + [-100] * (len(word) - 1)
                feature = {"input_ids": [*ids, sep], "labels": [*labels, -100]}
                feature["token_type_ids"] = [0] * (len(ids) + 1)
                # Where words begin, also those whose tag training never showed.
                lengths = np.cumsum([1, *map(len, words[start:stop])])[:-1]
                feature["word_starts"] = lengths.tolist()
                result.features.append(feature)
                result.row_of.append(number)
    if language_type is not None:
        for feature in result.features:
            feature["token_type_ids"] = [language_type] * len(feature["input_ids"])
    return result


class _OfflineMetric(evaluate.Metric):
    """An `evaluate` metric that comes with this package: strings in, percent out."""

    sequence = True

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value("string")
        kind = datasets.Sequence(value) if self.sequence else value
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description="predictions, references: the tags of each sentence, or the labels",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )


class EntityF1(_OfflineMetric):
    """NER: seqeval's F1 in its default mode (the field's habit) and in strict IOB2."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        strict = f1_score(references, predictions, mode="strict", scheme=IOB2, zero_division=0)
        default = f1_score(references, predictions, zero_division=0)
        return {"seqeval_f1": 100 * float(default), "seqeval_strict_f1": 100 * float(strict)}


class TagAccuracy(_OfflineMetric):
    """POS: accuracy and macro-F1 over words; seqeval's F1 on bare tags, as ALIGN-MLM scored it."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        pairs = Counter(
            pair
            for reference, prediction in zip(references, predictions, strict=True)
            for pair in zip(reference, prediction, strict=True)
        )
        gold: Counter[str] = Counter()
        guessed: Counter[str] = Counter()
        for (reference, prediction), count in pairs.items():
            gold[reference] += count
            guessed[prediction] += count
        f1 = [200 * pairs[tag, tag] / (gold[tag] + guessed[tag]) for tag in gold]
        right = sum(count for (a, b), count in pairs.items() if a == b)
        with warnings.catch_warnings():
            # It says of each tag that it is no entity's.
            warnings.simplefilter("ignore")
            paper = f1_score(references, predictions, zero_division=0)
        return {
            "accuracy": 100 * right / pairs.total(),
            "macro_f1": statistics.fmean(f1),
            "seqeval_on_pos_f1": 100 * float(paper),
        }


class LabelAccuracy(_OfflineMetric):
    """NLI: accuracy, with the majority class's share beside it."""

    sequence = False

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        right = sum(a == b for a, b in zip(predictions, references, strict=True))
        majority = Counter(references).most_common(1)[0][1]
        total = len(references)
        return {"accuracy": 100 * right / total, "majority_baseline": 100 * majority / total}


METRICS = {"pos": TagAccuracy, "ner": EntityF1, "nli": LabelAccuracy}


def majority_baseline(task: str, train: Sequence[Row], test: Sequence[Row]) -> float:
    """The task's headline for a guesser that knows training's counts alone, in percent.

    POS: the most frequent tag throughout; NER: no entities at all, so 0; NLI: the test set's most
    frequent label.
    """
    if task == "ner":
        return 0.0
    counts = Counter(tag for row in (test if task == "nli" else train) for tag in row.tags)
    guess = counts.most_common(1)[0][0]
    tags = [tag for row in test for tag in row.tags]
    return 100 * tags.count(guess) / len(tags)
