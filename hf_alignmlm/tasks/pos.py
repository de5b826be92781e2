"""Part-of-speech tagging."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter

from hf_alignmlm.tasks.base import WORDS, Tags, register_task
from hf_alignmlm.tasks.tagging import TaggingTask


@register_task("pos")
class Pos(TaggingTask):
    """A part of speech for each word, as Universal Dependencies has them."""

    title = "POS"
    tag_columns = ("upos", "pos_tags", "tags")
    features = dict.fromkeys(("tokens", "upos", "derived_tokens", "derived_upos"), WORDS)
    columns_description = (
        "parts of speech, `tokens` and `upos`, with `derived_tokens` and `derived_upos` beside"
    )

    def score(self, predictions: Tags, references: Tags) -> dict[str, float]:
        """Accuracy and macro-F1 over words; seqeval's F1 on bare tags, as ALIGN-MLM scored it."""
        from seqeval.metrics import f1_score

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
            # seqeval warns of each tag that it is no entity's.
            warnings.simplefilter("ignore")
            paper = f1_score(references, predictions, zero_division=0)
        return {
            "accuracy": 100 * right / pairs.total(),
            "macro_f1": statistics.fmean(f1),
            "seqeval_on_pos_f1": 100 * float(paper),
        }
