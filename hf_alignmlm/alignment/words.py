"""Alignment of the words of a dictionary, each the mean of its pieces, and of parts of them."""

import math
from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor

from hf_alignmlm.alignment.scores import (
    SUFFIXES,
    TIE,
    alignment_scores,
    cosine_table,
    mean_cosines,
    unit_rows,
)
from hf_alignmlm.data.dictionary import BilingualDictionary, WordPieces

# The least number of occurrences of a band of words by frequency, and of the next band.
BANDS = (0, 1, 10, 100, 1000, math.inf)
# Cosines of a dictionary beyond which `quick` ranks a sample of each group's words, how many, and
# how many at once.
_MANY, _SAMPLE, _ROWS = 1 << 25, 2500, 256


@torch.no_grad()
def dictionary_alignment(
    embeddings: Tensor, dictionary: BilingualDictionary, *, quick: bool = False
) -> dict[str, float | None]:
    """`alignment_scores` of [vocabulary, d] embeddings over all pairs of a dictionary.

    The candidates are all words of the dictionary: for a dictionary of the vocabulary, all original
    and all derived tokens (the paper's measure). A word of several pieces is their mean. With
    words of several pieces or counts, P@1 is also told apart: `p1_identical` of words with a
    translation of the same pieces, `p1_different` of the others, `p1_frequency` of words weighed by
    their occurrences, `p1_count_10_99` of those that occur so often.

    Of several parts the scores are the mean, and each part's stand beside (`en-fr_p1`). `quick`
    ranks only a sample of a large dictionary's words, by cosine, among all candidates; a dictionary
    of the vocabulary is always ranked whole.
    """
    if dictionary.parts:
        return _mean_of_parts(
            {n: dictionary_alignment(embeddings, part, quick=quick) for n, part in dictionary.parts}
        )
    places = [{word: i for i, word in enumerate(side)} for side in dictionary.words]
    modules = [WordPieces(side).to(embeddings.device) for side in dictionary.words]
    original, derived = (module(embeddings) for module in modules)
    columns = [
        torch.tensor([place[word] for word in side])
        for place, side in zip(places, zip(*dictionary.pairs, strict=True), strict=True)
    ]
    pairs, seen = torch.stack(columns, 1), torch.arange(len(dictionary)) < len(dictionary.seen)
    pairs, linked = pairs.split([len(dictionary), len(dictionary.linked)])
    several = any(module.offsets is not None for module in modules)
    if quick and several and len(original) * len(derived) > _MANY:
        return _sampled(original, derived, pairs, seen, linked)
    words = _word_weights(dictionary) if several or dictionary.counts else {}
    return alignment_scores(original, derived, pairs, seen, linked=linked, words=words)


def _mean_of_parts(scores: Mapping[str, dict[str, float | None]]) -> dict[str, float | None]:
    names = dict.fromkeys(name for part in scores.values() for name in part)
    known = {n: [v for part in scores.values() if (v := part.get(n)) is not None] for n in names}
    means = {name: fmean(values) if values else None for name, values in known.items()}
    return means | {f"{part}_{n}": v for part, own in scores.items() for n, v in own.items()}


def _word_weights(dictionary: BilingualDictionary) -> dict[str, Tensor]:
    """Weights of the original words by name: which have a translation spelled the same, and more
    where the dictionary knows how often they occur."""
    same = {original for original, derived in dictionary.pairs if original == derived}
    identical = torch.tensor([word in same for word in dictionary.words[0]])
    weights = {"identical": identical, "different": ~identical}
    if dictionary.counts:
        counts = torch.tensor(dictionary.counts[0])
        weights["frequency"] = counts
        for low, high in pairwise(BANDS):
            end = "" if high - low == 1 else "_up" if high == math.inf else f"_{high - 1}"
            weights[f"count_{low}{end}"] = (counts >= low) & (counts < high)
    return weights


def _sampled(
    original: Tensor, derived: Tensor, pairs: Tensor, seen: Tensor, linked: Tensor
) -> dict[str, float | None]:
    """P@1 by cosine of a sample of each group's words among all derived ones, and mean cosines."""
    units = unit_rows(original, "original"), unit_rows(derived, "derived")
    right, seen = torch.cat([pairs, linked]).to(original.device), seen.to(original.device)
    cosines = (units[0][right[:, 0]] * units[1][right[:, 1]]).sum(1)
    result, numbers = mean_cosines(units, cosines[: len(pairs)], seen), []
    for suffix, member in zip(SUFFIXES[1:], (seen, ~seen), strict=True):
        golden = member.nonzero().flatten()
        words = right[golden, 0].unique()
        numbers.append(len(words))
        bars = original.new_full((len(original),), math.inf, dtype=torch.float32)
        bars.scatter_reduce_(0, right[golden, 0], cosines[golden] - TIE, "amax", include_self=False)
        hits, row = [], right.new_full((len(original),), -1)
        evenly = torch.linspace(0, len(words) - 1, min(len(words), _SAMPLE)).long()
        for block in words[evenly].split(_ROWS):
            table = cosine_table(units[0][block], units[1])
            row[block] = torch.arange(len(block), device=row.device)
            own = row[right[:, 0]] >= 0
            table[row[right[own, 0]], right[own, 1]] = -math.inf
            row[block] = -1
            hits.append(table.amax(1) < bars[block])
        result[f"p1{suffix}"] = 100 * torch.cat(hits).double().mean().item() if len(words) else None
    shares = [(n, result[f"p1{s}"]) for n, s in zip(numbers, SUFFIXES[1:], strict=True)]
    result["p1"] = sum(n * (p1 or 0) for n, p1 in shares) / sum(numbers)
    return result
