"""Part-of-speech tagging."""

import statistics
import warnings
from collections import Counter
from itertools import compress

from hf_alignmlm.tasks.base import WORDS, Row, Split, Tags, register_task
from hf_alignmlm.tasks.reading import Raw
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

    def read(self, raw: Raw, split: Split, where: str) -> Row | None:
        """A sentence without the words whose tag is `_`: ranges, as of French "du" = "de" "le"."""
        row = super().read(raw, split, where)
        if row is None or "_" not in row.tags:
            return row
        is_word = [tag != "_" for tag in row.tags]
        for name, values in raw.items():
            if isinstance(values, list | tuple) and len(values) == len(is_word):
                raw = raw | {name: list(compress(values, is_word))}
        return super().read(raw, split, where)

    def score(self, predictions: Tags, references: Tags) -> dict[str, float]:
        """Accuracy and macro-F1 over words; seqeval's F1 on bare tags, as ALIGN-MLM scored it."""
        from seqeval.metrics import f1_score

        gold = Counter(tag for row in references for tag in row)
        guessed = Counter(tag for row in predictions for tag in row)
        right: Counter[str] = Counter()
        for rows in zip(references, predictions, strict=True):
            right.update(tag for tag, guess in zip(*rows, strict=True) if tag == guess)
        f1 = [200 * right[tag] / (gold[tag] + guessed[tag]) for tag in gold]
        with warnings.catch_warnings():
            # seqeval warns of each tag that it is no entity's.
            warnings.simplefilter("ignore")
            paper = f1_score(references, predictions, zero_division=0)
        return {
            "accuracy": 100 * right.total() / gold.total(),
            "macro_f1": statistics.fmean(f1),
            "seqeval_on_pos_f1": 100 * float(paper),
        }
