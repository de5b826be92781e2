"""What a dictionary covers: how often its words occur in text, and what its pairs are like."""

import unicodedata
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hf_alignmlm.data.dictionary import BilingualDictionary, Pieces
from hf_alignmlm.data.tokenizer import continuation

# Rows of text that are looked through at once.
_BATCH = 100_000
# What a piece begins with that begins a word, in SentencePiece and in byte-level BPE.
_WORD_STARTS = ("▁", "Ġ")


def word_counts(
    words: Sequence[Pieces], rows: Dataset, tokenizer: PreTrainedTokenizerBase, column: str = "ids"
) -> list[int]:
    """How often each word, or phrase, occurs in tokenized rows, so that frequency can be told.

    `words` are different sequences of token ids (one side of `BilingualDictionary.words`), `column`
    holds the ids of each row. A word ends where the next piece begins another: of the text `cats`,
    [cat, ##s], `cat` is no word. A phrase does not count for its words less.
    """
    goes_on = _going_on(tokenizer)
    levels = list(_trie(words, len(goes_on)))
    counts = np.zeros(len(words), np.int64)
    for batch in rows.select_columns(column).with_format("arrow").iter(_BATCH):
        text = _apart(batch[column].combine_chunks(), len(goes_on) - 1)
        places, nodes = np.arange(len(text) - 1), np.zeros(len(text) - 1, np.int64)
        for depth, (codes, last, ended) in enumerate(levels):
            wanted = nodes * len(goes_on) + text[places + depth]
            nodes = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            there = codes[nodes] == wanted
            places, nodes = places[there], nodes[there]
            complete = nodes[~goes_on[text[places + depth + 1]]]
            counts[ended] += np.bincount(complete, minlength=len(codes))[last]
    return counts.tolist()


def _going_on(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Whether each token goes on with the word before it; last, the end of a row, which does not.

    Without a mark, letters go on and punctuation does not: `s` after `▁cat`, but not `,`.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if prefix := continuation(tokenizer):
        return np.array([*(token.startswith(prefix) for token in tokens), False])
    begins = [t.startswith(_WORD_STARTS) or unicodedata.category(t[0])[0] in "PSZ" for t in tokens]
    return ~np.array([*begins, True])


def _trie(words: Sequence[Pieces], width: int) -> Iterator[tuple[np.ndarray, ...]]:
    """A trie of words by depth, in which a node's code is its parent's place × width + its piece.

    Sorted codes, the places of the nodes where words end, and the numbers of these words.
    """
    lengths, parents = np.array([*map(len, words)], np.int64), np.zeros(len(words), np.int64)
    for depth in range(lengths.max(initial=0)):
        longer = np.flatnonzero(lengths > depth)
        pieces = np.array([words[number][depth] for number in longer.tolist()])
        codes, places = np.unique(parents[longer] * width + pieces, return_inverse=True)
        parents[longer] = places
        ended = longer[lengths[longer] == depth + 1]
        yield codes, parents[ended], ended


def _apart(rows: Any, end: int) -> np.ndarray:
    """Rows of ids end to end, with `end` after each: [[5, 6], [7]] as [5, 6, end, 7, end]."""
    sizes = pc.list_value_length(rows).to_numpy(zero_copy_only=False)
    text = np.full(sizes.sum() + len(sizes), end, np.int64)
    text[np.arange(sizes.sum()) + np.repeat(np.arange(len(sizes)), sizes)] = rows.flatten()
    return text


def coverage(dictionary: BilingualDictionary, names: Sequence[str]) -> dict[str, Any]:
    """What a dictionary covers, in numbers; `names` are the languages of its two sides.

    Counts of pairs (`pairs` are seen or held out) and of unusable lines by reason; percent of the
    pairs that are one piece on both sides; for each language its words, their mean number of pieces
    and, with counts, the percent that occurs in the text and how often (median of those that do).
    Of several parts, each one's numbers under its name.
    """
    if dictionary.parts:
        parts = {name: coverage(part, name.split("-")) for name, part in dictionary.parts}
        return {
            f"{name}_{key}": value for name, part in parts.items() for key, value in part.items()
        }
    pairs = dictionary.pairs
    result: dict[str, Any] = {
        "pairs": len(dictionary),
        "pairs_linked": len(dictionary.linked),
        "pairs_identical": sum(original == derived for original, derived in pairs),
        "one_piece_share": 100 * fmean(len(a) == len(b) == 1 for a, b in pairs),
    }
    result |= {f"skipped_{reason}": number for reason, number in dictionary.skipped.items()}
    counts = dictionary.counts or (None, None)
    for name, words, occur in zip(names, dictionary.words, counts, strict=True):
        result[f"{name}_words"] = len(words)
        result[f"{name}_pieces"] = fmean(map(len, words))
        if occur is not None:
            there = [number for number in occur if number]
            result[f"{name}_in_text"] = 100 * len(there) / len(words)
            result[f"{name}_occurrences"] = median(there) if there else 0
    return result


def coverage_line(dictionary: BilingualDictionary, names: Sequence[str]) -> str:
    """The coverage to be printed: a line, of several parts a line each."""
    if dictionary.parts:
        return "\n".join(coverage_line(part, name.split("-")) for name, part in dictionary.parts)
    found, skipped = coverage(dictionary, names), dictionary.skipped
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in skipped.items() if number)
    sides = [
        f"{found[f'{name}_words']:,} {name} words of {found[f'{name}_pieces']:.1f} pieces"
        + (f", {found[f'{name}_in_text']:.0f} % in the text" if dictionary.counts else "")
        for name in names
    ]
    return (
        f"Dictionary {'-'.join(names)}: {found['pairs']:,} pairs ({found['pairs_identical']:,} "
        f"identical), {sum(skipped.values()):,} unusable lines{reasons and f' ({reasons})'}; "
        f"{'; '.join(sides)}"
    )
