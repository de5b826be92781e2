"""A toy task: is a word written with a capital letter?"""

from hf_alignmlm import TASKS, register_task
from hf_alignmlm.tasks.base import WORDS
from hf_alignmlm.tasks.tagging import TaggingTask


@register_task("toy-capitals")
class Capitals(TaggingTask):
    """Tags `upper` and `lower` of the embedded corpus' own words."""

    title = "Capitals"
    features = dict.fromkeys(("tokens", "capitals", "derived_tokens", "derived_capitals"), WORDS)
    tag_columns = ("capitals",)
    columns_description = "capitals, `tokens` and `capitals`, with `derived_` columns beside"

    def embedded(self, split):
        """The embedded corpus' sentences, tagged."""
        for row in TASKS["pos"].embedded(split):
            capitals = [word[0].isupper() for word in row["tokens"]]
            yield row | {"capitals": ["upper" if capital else "lower" for capital in capitals]}

    def score(self, predictions, references):
        """Accuracy in percent."""
        rows = zip(predictions, references, strict=True)
        pairs = [pair for row in rows for pair in zip(*row, strict=True)]
        return {"accuracy": 100 * sum(a == b for a, b in pairs) / len(pairs)}
