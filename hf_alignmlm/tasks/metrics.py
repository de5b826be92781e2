"""The scores of a task as a metric of `evaluate`, that needs no network."""

from __future__ import annotations

from typing import Any

import evaluate
from datasets import Features

from hf_alignmlm.tasks.base import TASKS, WORDS


class TaskMetric(evaluate.Metric):
    """A task's scores: `TaskMetric("ner").compute(predictions=tags, references=tags)`.

    Both are lists of strings, one list a row; of a pair it holds the label. Scores are in percent.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=TASKS[self.config_name].score.__doc__ or "",
            citation="",
            inputs_description="predictions, references: the tags of each row, or its label",
            features=Features({"predictions": WORDS, "references": WORDS}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return TASKS[self.config_name].score(predictions, references)
