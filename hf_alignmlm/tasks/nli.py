"""Natural-language inference."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from datasets import ClassLabel

from hf_alignmlm import minienglish
from hf_alignmlm.data.rows import TREE_COLUMNS, as_text, as_words, row_tree
from hf_alignmlm.tasks.base import (
    EMBEDDED_ROWS,
    TEXT,
    Encoded,
    InputForm,
    Pieces,
    Row,
    Split,
    Tags,
    Task,
    register_task,
)
from hf_alignmlm.tasks.reading import Raw, first_of

NLI_LABELS = ("entailment", "neutral", "contradiction")
# What a label may be called; where annotators did not agree there is none.
LABELS: dict[Any, str | None] = dict(enumerate(NLI_LABELS))
LABELS |= {name: name for name in NLI_LABELS}
LABELS |= {"contradictory": "contradiction"} | dict.fromkeys((None, -1, "-1", "-", ""))
SENTENCES = ("premise", "hypothesis")


@register_task("nli")
class Nli(Task):
    """A premise, a hypothesis, and whether the one entails or contradicts the other."""

    title = "NLI"
    category = "text-classification"
    auto_class = "AutoModelForSequenceClassification"
    command = "nli"
    features: ClassVar[dict[str, Any]] = {
        **{"premise": TEXT, "hypothesis": TEXT, "label": ClassLabel(names=list(NLI_LABELS))},
        **{"derived_premise": TEXT, "derived_hypothesis": TEXT},
    }
    columns_description = (
        "inference, `premise`, `hypothesis` and `label`, with `derived_premise` and "
        "`derived_hypothesis` beside"
    )

    def embedded(self, split: str) -> Iterator[Raw]:
        """Pairs with a tree for each sentence, as `premise_heads` and so on."""
        for pair in minienglish.pairs(EMBEDDED_ROWS[split], split=f"task-{split}"):
            row: Raw = {"label": pair.label}
            for name in SENTENCES:
                sentence = getattr(pair, name)
                row[name] = sentence.words
                row |= {f"{name}_{column}": getattr(sentence, column) for column in TREE_COLUMNS}
            yield row

    def read(self, raw: Raw, split: Split, where: str) -> Row | None:
        """A pair of texts or lists of words, and a label, a class or its name."""
        given = first_of(raw, ("label",), where)
        label = given.strip().casefold() if isinstance(given, str) else given
        # A number with a point or a truth value would be equal to a class.
        if type(label) not in (int, str, type(None)) or label not in LABELS:
            known = ", ".join(NLI_LABELS)
            raise ValueError(f"{where}: label {given!r} is not one of {known} (or 0, 1, 2)")
        words, trees = list[list[str]](), []
        for column in SENTENCES:
            text, place = first_of(raw, (column,), where), f"{where}, {column}"
            if isinstance(text, dict):
                raise ValueError(
                    f"{place}: several languages stand where a text belongs: name a configuration "
                    "of one"
                )
            read = as_words if isinstance(text, list | tuple) else as_text
            value = read(text, place) or []
            words.append(split(value) if isinstance(value, str) else value)
            trees.append(row_tree(raw, f"{column}_"))
        name = LABELS[label]
        return Row(words, [name], trees, where) if name and all(words) else None

    def mix(self, row: Row, other: Row) -> Row:
        """The premise of the one and the hypothesis of the other; they have one label."""
        return Row([row.words[0], other.words[1]], row.tags, [], row.where)

    def labels(self, train: Sequence[Row]) -> list[str]:
        return list(NLI_LABELS)

    def inputs(
        self, pieces: Pieces, labels: list[int], form: InputForm
    ) -> tuple[list[dict[str, Any]], int]:
        """A pair that is too long loses the last words of its longer sentence, one by one."""
        first, second = ([*sentence] for sentence in pieces)
        truncated = 0
        while sum(map(len, first + second)) > form.room(2):
            max(first, second, key=lambda sentence: sum(map(len, sentence))).pop()
            truncated += 1
        return [form.framed(first, second) | {"labels": labels[0]}], truncated

    def decode(self, encoded: Encoded, guesses: Any, labels: Sequence[str]) -> list[list[str]]:
        return [[labels[guess]] for guess in guesses]

    def score(self, predictions: Tags, references: Tags) -> dict[str, float]:
        """Accuracy, and the share of the majority class beside it."""
        right = sum(list(a) == list(b) for a, b in zip(predictions, references, strict=True))
        majority = Counter(label for (label,) in references).most_common(1)[0][1]
        total = len(references)
        return {"accuracy": 100 * right / total, "majority_baseline": 100 * majority / total}

    def baseline(self, train: Sequence[Row], test: Sequence[Row]) -> float:
        """The share of the test set's most frequent label."""
        return super().baseline(test, test)

    def columns(self, row: Row) -> dict[str, Any]:
        premise, hypothesis = map(" ".join, row.words)
        label = NLI_LABELS.index(row.tags[0])
        return {"premise": premise, "hypothesis": hypothesis, "label": label}
