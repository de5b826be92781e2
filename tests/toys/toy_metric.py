"""A toy metric: parts of speech scored by whole sentences."""

from hf_alignmlm import TASKS, register_task


@register_task("toy-sentences")
class WholeSentences(type(TASKS["pos"])):
    """POS, where a sentence counts if all of its tags are right."""

    title = "POS, whole sentences"
    metric = "exact_match"

    def score(self, predictions, references):
        """Share of sentences without a wrong tag, and those with at most one, in percent."""
        wrong = [
            sum(a != b for a, b in zip(*pair, strict=True))
            for pair in zip(predictions, references, strict=True)
        ]
        return {
            "exact_match": 100 * sum(n == 0 for n in wrong) / len(wrong),
            "near_match": 100 * sum(n <= 1 for n in wrong) / len(wrong),
        }
