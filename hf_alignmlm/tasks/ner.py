"""Named-entity recognition."""

import re
from collections.abc import Sequence
from dataclasses import replace

from hf_alignmlm.tasks.base import WORDS, Row, Split, Tags, register_task
from hf_alignmlm.tasks.reading import Raw
from hf_alignmlm.tasks.tagging import TaggingTask

ENTITY_TAG = re.compile(r"O|[BIESLU]-\S(.*\S)?")


@register_task("ner")
class Ner(TaggingTask):
    """Entities as tags: B-PER begins one of a person, I-PER goes on with it, O is outside."""

    title = "NER"
    metric = "seqeval_f1"
    tag_columns = ("ner_tags", "tags")
    features = dict.fromkeys(("tokens", "ner_tags", "derived_tokens", "derived_ner_tags"), WORDS)
    columns_description = (
        "entities, `tokens` and `ner_tags`, with `derived_tokens` and `derived_ner_tags` beside"
    )

    def read(self, raw: Raw, split: Split, where: str) -> Row | None:
        row = super().read(raw, split, where)
        return row and replace(row, tags=iob2(row.tags, where))

    def reorder(self, tags: list[str], orders: Sequence[list[int]]) -> tuple[list[str], int]:
        """Strict IOB2 tags of words put in another order, and the number of entities it broke.

        Each unbroken run of one entity's words becomes B-, I-, I-, whatever the run's direction: of
        [B-PER, I-PER, O] in the order [2, 1, 0] it makes [O, B-PER, I-PER].
        """
        entity, number = [], 0
        for tag in tags:
            number += tag.startswith("B-")
            entity.append(number if tag != "O" else 0)
        result, before = [], 0
        for i in orders[0]:
            prefix = "I-" if entity[i] == before else "B-"
            result.append(prefix + tags[i][2:] if entity[i] else "O")
            before = entity[i]
        return result, sum(tag.startswith("B-") for tag in result) - number

    def score(self, predictions: Tags, references: Tags) -> dict[str, float]:
        """seqeval's F1 in its default mode (the field's habit) and in strict IOB2."""
        from seqeval.metrics import f1_score
        from seqeval.scheme import IOB2

        strict = f1_score(references, predictions, mode="strict", scheme=IOB2, zero_division=0)
        default = f1_score(references, predictions, zero_division=0)
        return {"seqeval_f1": 100 * float(default), "seqeval_strict_f1": 100 * float(strict)}

    def baseline(self, train: Sequence[Row], test: Sequence[Row]) -> float:
        """The most frequent tag is O: who always guesses it finds no entity."""
        return 0.0


def iob2(tags: Sequence[str], where: str = "tags") -> list[str]:
    """Entity tags in strict IOB2, from IOB1, IOB2, BIOES or BILOU: each entity starts with B-.

    [S-LOC, O, B-PER, E-PER] gives [B-LOC, O, B-PER, I-PER]. ValueError, with `where`, for others.
    """
    result, open_kind = [], ""
    for tag in tags:
        if not ENTITY_TAG.fullmatch(tag):
            raise ValueError(
                f"{where}: {tag!r} is no entity tag as O, B-PER, I-PER, E-PER or S-PER"
            )
        prefix, kind = tag[:1], tag[2:]
        begins = prefix in "BSU" or kind != open_kind
        result.append(tag if tag == "O" else f"{'B' if begins else 'I'}-{kind}")
        open_kind = kind if prefix in "BI" else ""
    return result
