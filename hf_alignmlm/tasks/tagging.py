"""What tasks with a tag for each word share."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, ClassVar

from transformers import DataCollatorForTokenClassification

from hf_alignmlm import minienglish
from hf_alignmlm.data.formats import column_rows, file_format
from hf_alignmlm.data.rows import TREE_COLUMNS, as_words, row_tree
from hf_alignmlm.objectives.base import IGNORE_INDEX
from hf_alignmlm.tasks.base import EMBEDDED_ROWS, Encoded, InputForm, Pieces, Row, Split, Task
from hf_alignmlm.tasks.reading import Raw, first_of


class TaggingTask(Task):
    """A tag for each word. `tag_columns` may hold the tags; a built dataset's is the first."""

    category = "token-classification"
    auto_class = "AutoModelForTokenClassification"
    command = "tag"
    collator = DataCollatorForTokenClassification
    tag_columns: ClassVar[tuple[str, ...]] = ("tags",)

    def raw_rows(self, path: str) -> Iterator[Raw]:
        """The rows of a file; one of text has a word and its tag on each line."""
        return column_rows(path) if file_format(path) == "text" else super().raw_rows(path)

    def embedded(self, split: str) -> Iterator[Raw]:
        """The embedded corpus has parts of speech, entities and trees."""
        for s in minienglish.sentences(EMBEDDED_ROWS[split], split=f"task-{split}"):
            tree = {column: getattr(s, column) for column in TREE_COLUMNS}
            yield {"tokens": s.words, "ner_tags": s.ner_tags, **tree}

    def read(self, raw: Raw, split: Split, where: str) -> Row | None:
        """A sentence of `tokens` and tags; None where it has no words or no tags."""
        words = as_words(first_of(raw, ("tokens", "words"), where), where)
        tags = first_of(raw, self.tag_columns, where)
        if words is None or tags is None:
            return None
        if not isinstance(tags, list | tuple) or not all(isinstance(t, str) and t for t in tags):
            raise ValueError(f"{where}: tags must be strings, or classes with names, not {tags!r}")
        if len(words) != len(tags):
            raise ValueError(f"{where}: {len(words)} words but {len(tags)} tags")
        return Row([words], list(tags), [row_tree(raw)], where) if words else None

    def reorder(self, tags: list[str], orders: Sequence[list[int]]) -> tuple[list[str], int]:
        """Each tag goes with its word."""
        return [tags[i] for i in orders[0]], 0

    def inputs(
        self, pieces: Pieces, labels: list[int], form: InputForm
    ) -> tuple[list[dict[str, Any]], int]:
        """A label stands at the first piece of its word, −100 elsewhere.

        A sentence that is too long becomes several inputs, so that no word goes without a tag.
        `word_starts` tell where words begin, also those whose tag training never showed.
        """
        room, start_of_words = form.room(1), len(form.specials[1][0])
        words, features = [word[:room] for word in pieces[0]], []
        for start, stop in windows([len(word) for word in words], room):
            window = words[start:stop]
            feature = form.framed(window)
            # Words of 2, 1 and 3 pieces start at 1, 3 and 4.
            starts = list(accumulate(map(len, window[:-1]), initial=start_of_words))
            targets = [IGNORE_INDEX] * len(feature["input_ids"])
            for place, label in zip(starts, labels[start:stop], strict=True):
                targets[place] = label
            features.append(feature | {"labels": targets, "word_starts": starts})
        return features, 0

    def decode(self, encoded: Encoded, guesses: Any, labels: Sequence[str]) -> list[list[str]]:
        """The tags at the words' first pieces; the windows of a sentence follow one another."""
        predictions: list[list[str]] = [[] for _ in range(encoded.row_of[-1] + 1)]
        for row, feature, guess in zip(encoded.row_of, encoded.features, guesses, strict=True):
            predictions[row] += [labels[guess[i]] for i in feature["word_starts"]]
        return predictions

    def columns(self, row: Row) -> dict[str, Any]:
        return {"tokens": row.words[0], self.tag_columns[0]: row.tags}


def windows(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Cut words of these lengths into the fewest runs of at most `room` pieces, about even.

    For lengths [2, 2, 2, 2] and room 6 the windows are [(0, 2), (2, 4)], not [(0, 3), (3, 4)].
    """
    total = sum(lengths)
    target = math.ceil(total / math.ceil(total / room)) if total > room else room
    result, start, filled = [], 0, 0
    for position, length in enumerate(lengths):
        if filled and (filled + length > room or filled >= target):
            result.append((start, position))
            start, filled = position, 0
        filled += length
    return [*result, (start, len(lengths))]
