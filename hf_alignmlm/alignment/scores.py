"""Word alignment of two languages: embeddings and true pairs in, P@k, MRR and CSLS out."""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import datasets
import evaluate
import torch
from torch import Tensor

from hf_alignmlm.objectives.align_mlm import AlignMLM

# Float32 products of equal rows were up to 1e-6 apart; cosines closer than this count as tied.
TIE = 5e-6
SUFFIXES = ("", "_seen", "_heldout")

_CSLS = """\
@inproceedings{conneau2018word, title={Word Translation Without Parallel Data},
  author={Conneau, Alexis and Lample, Guillaume and Ranzato, Marc'Aurelio and Denoyer, Ludovic and
          J{\\'e}gou, Herv{\\'e}},
  booktitle={ICLR}, year={2018}, note={arXiv:1710.04087}}"""


def unit_rows(embeddings: Tensor, name: str) -> Tensor:
    """Float32 rows of length 1, zero rows aside; ValueError for values that are not finite."""
    wide = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    largest = torch.linalg.vector_norm(wide, math.inf, dim=1, keepdim=True)
    if not largest.isfinite().all():
        raise ValueError(f"{name} embeddings hold NaN or infinite values")
    # With its largest entry at 1, no row's norm can overflow or vanish, save a zero row's.
    unit = (wide / largest.masked_fill(largest == 0, 1)).float()
    return unit.div_(torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_min(1))


def _check(original: Tensor, derived: Tensor, pairs: Tensor, seen: Tensor) -> None:
    if original.ndim != 2 or derived.ndim != 2 or original.shape[1] != derived.shape[1]:
        shapes = f"{list(original.shape)} and {list(derived.shape)}"
        raise ValueError(f"embeddings must be [n, d] and [m, d] with one d, not {shapes}")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(f"pairs must be [p, 2] with p at least 1, not {list(pairs.shape)}")
    if pairs.is_floating_point() or pairs.is_complex() or pairs.dtype == torch.bool:
        raise ValueError(f"pairs must be integers, not {pairs.dtype}")
    sizes = pairs.new_tensor([len(original), len(derived)])
    if (pairs < 0).any() or (pairs >= sizes).any():
        raise ValueError(f"pairs reach outside the {len(original)} x {len(derived)} embeddings")
    if seen.dtype != torch.bool or seen.shape != pairs.shape[:1]:
        raise ValueError(f"seen must be {len(pairs)} bools, one a pair")


def cosine_table(left: Tensor, right: Tensor) -> Tensor:
    """The products of each left and each right row."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.T


class _Ranking:
    """Ranks of translations, from the cosine matrix taken in blocks.

    Directions are 0, from original to derived, and 1, back; measures are 0, cosine, and 1, CSLS.
    CSLS is used halved, and without the query's own hubness: neither changes a rank.
    """

    def __init__(self, units: tuple[Tensor, Tensor], pairs: Tensor, size: int, neighbours: int):
        self.units, self.pairs, self.size = units, pairs, size
        self.cosines = units[0].new_empty(len(pairs))
        nearest = [
            unit.new_full((len(unit), min(neighbours, len(other))), -math.inf)
            for unit, other in (units, units[::-1])
        ]
        for spans, cosines, here, where in self.blocks():
            self.cosines[here] = cosines[where]
            for span, best, table in zip(spans, nearest, (cosines, cosines.T), strict=True):
                k = best.shape[1]
                # Most rows have none nearer than before; their maxima cost a fortieth of a topk.
                rows = (table.amax(1) > best[span].amin(1)).nonzero().flatten()
                new = table[rows].topk(min(k, table.shape[1]), dim=1, sorted=False).values
                new, rows = torch.cat((best[span][rows], new), 1), rows + span.start
                best[rows] = new.topk(k, dim=1, sorted=False).values
        # Half the mean cosine to the nearest neighbours.
        self.hubness = [best.mean(1) / 2 for best in nearest]

    def blocks(self) -> Iterator[tuple[tuple[slice, slice], Tensor, Tensor, tuple[Tensor, Tensor]]]:
        """Yield the cosine matrix by blocks: spans, cosines, which pairs lie there, and where."""
        size = self.size
        starts = [range(0, len(unit), size) for unit in self.units]
        block_of = self.pairs[:, 0] // size * len(starts[1]) + self.pairs[:, 1] // size
        counts = torch.bincount(block_of, minlength=len(starts[0]) * len(starts[1]))
        members = block_of.argsort().split(counts.tolist())
        for (row, column), here in zip(product(*starts), members, strict=True):
            spans = slice(row, row + size), slice(column, column + size)
            where = self.pairs[here, 0] - row, self.pairs[here, 1] - column
            yield spans, cosine_table(self.units[0][spans[0]], self.units[1][spans[1]]), here, where

    def bars(self, groups: list[Tensor]) -> list[Tensor]:
        """By direction, [measure, group, query]: the score that ranks before the translation.

        It is that of the query's best translation in the group, less the margin of a tie; infinite,
        for no candidate to reach, where the query has none. `groups` are masks over the pairs.
        """
        bars = [unit.new_full((2, len(groups), len(unit)), math.inf) for unit in self.units]
        for way, (group, member) in product(range(2), enumerate(groups)):
            queries, targets = self.pairs[member, way], self.pairs[member, 1 - way]
            cosines = self.cosines[member]
            scores = cosines, cosines - self.hubness[1 - way][targets]
            for bar, score in zip(bars[way][:, group], scores, strict=True):
                bar.scatter_reduce_(0, queries, score - TIE, "amax", include_self=False)
        return bars

    def ranks(self, groups: list[Tensor]) -> list[Tensor]:
        """Ranks in the shape of `bars`: one more than the candidates that reach the bar.

        A query's own translations do not count. Where a query has none, its rank is infinite.
        """
        bars = self.bars(groups)
        ranks = [torch.where(bar.isinf(), math.inf, 1.0) for bar in bars]
        present = [group for group, member in enumerate(groups) if member.any()]
        if len(present) > 1 and all((bar[0].isfinite().sum(0) <= 1).all() for bar in bars):
            # No query is of two groups, as where these are drawn by word: count for all at once.
            merged = [bar.amin(1, keepdim=True) for bar in bars]
            counted = [bar.new_zeros(bar.shape) for bar in merged]
            self._count(merged, counted, [0])
            return [rank + count for rank, count in zip(ranks, counted, strict=True)]
        self._count(bars, ranks, present)
        return ranks

    def _count(self, bars: list[Tensor], ranks: list[Tensor], present: list[int]) -> None:
        """Add to ranks, of the groups present, the candidates that reach the bar."""
        # Used again for every block: fresh memory pages cost as much as the counting.
        room = self.cosines.new_empty(2, *(min(self.size, len(unit)) for unit in self.units))
        for spans, cosines, _, where in self.blocks():
            cosines[where] = -math.inf
            tables = (cosines, *room[:, : len(cosines), : cosines.shape[1]])
            for way, (span, rivals) in enumerate((spans, spans[::-1])):
                plain, csls, reached = (table.T if way else table for table in tables)
                torch.sub(plain, self.hubness[1 - way][rivals], out=csls)
                for (measure, scores), group in product(enumerate((plain, csls)), present):
                    # Summing floats is vectorised; summing bools took ten times as long.
                    torch.ge(scores, bars[way][measure, group, span, None], out=reached)
                    ranks[way][measure, group, span] += reached.sum(1)


@torch.no_grad()
def alignment_scores(
    original: Tensor,
    derived: Tensor,
    pairs: Tensor,
    seen: Tensor | None = None,
    *,
    linked: Tensor | None = None,
    words: Mapping[str, Tensor] | None = None,
    csls_neighbours: int = 10,
    block_size: int = 1000,
) -> dict[str, float | None]:
    """Score how near each word lies to its translation, so that alignment can be compared.

    `original` [n, d] and `derived` [m, d] hold the embeddings of all candidates, on any device and
    in any float type; `pairs` [p, 2] (integers) indexes them, many-to-many if need be; `seen` [p]
    (bools, default all true) marks the trained pairs, the others are held out. `linked` [q, 2] are
    further right answers that are not measured. `words` are weights [n] of the original words by
    name: each adds `p1_NAME`, the weighted mean of P@1. `csls_neighbours` is fewer where a language
    is smaller; `block_size` bounds memory and changes no result.

    Returns, in percent of queries: `p1`, `p5`, `p10` and `mrr` by cosine from original to derived,
    with `csls_` by CSLS, with `backward_` from derived to original (`backward_csls_p1`), each also
    over `_seen` and `_heldout` pairs alone. As plain cosines in [-1, 1]: `cosine_true`, the mean of
    the pairs (also `_seen`, `_heldout`), and `cosine_random`, the mean of all n x m combinations,
    which is high when embeddings collapse. A group without pairs has None.

    A query is a word with a translation in the group. Its rank is that of its best translation in
    the group, against all words of the other language save the query's own translations, of either
    group (a filtered ranking). Ties, to within rounding (5e-6 in a cosine), count against the
    translation: collapsed embeddings score nothing. A zero vector has cosine 0 with everything.

    Raises ValueError for embeddings that are not finite or not of one width, for no pairs or pairs
    out of range, and for `seen` of another length.

    Source: P@1 as in ALIGN-MLM (arXiv 2211.08547); CSLS, 2 cos(x, y) - r(x) - r(y) with r the mean
    cosine to the nearest neighbours in the other language, as in arXiv 1710.04087.
    """
    if csls_neighbours < 1 or block_size < 1:
        raise ValueError("csls_neighbours and block_size must be at least 1")
    pairs = pairs.to(original.device)
    seen = torch.ones(len(pairs), dtype=torch.bool) if seen is None else seen
    seen = seen.to(original.device)
    _check(original, derived, pairs, seen)
    units = (unit_rows(original, "original"), unit_rows(derived, "derived"))
    right = pairs if linked is None else torch.cat([pairs, linked.to(pairs)])
    groups = [torch.cat([g, g.new_zeros(len(right) - len(g))]) for g in (seen, ~seen)]
    ranking = _Ranking(units, right, block_size, csls_neighbours)
    ranks = ranking.ranks(groups)
    means = mean_cosines(units, ranking.cosines[: len(seen)], seen)
    return _summary(ranks) | means | _weighted(ranks[0][0], words or {})


def _summary(ranks: list[Tensor]) -> dict[str, float | None]:
    """The scores of ranks by name, in percent."""
    result: dict[str, float | None] = {}
    for way, tables in zip(("", "backward_"), ranks, strict=True):
        for measure, by_group in zip(("", "csls_"), tables, strict=True):
            for suffix, some in zip(SUFFIXES, (by_group.amin(0), *by_group), strict=True):
                some = some[some.isfinite()].cpu().double()
                values = {f"p{k}": (some <= k).double() for k in (1, 5, 10)} | {"mrr": 1 / some}
                for name, value in values.items():
                    score = 100 * value.mean().item() if len(some) else None
                    result[way + measure + name + suffix] = score
    return result


def mean_cosines(
    units: tuple[Tensor, Tensor], cosines: Tensor, seen: Tensor
) -> dict[str, float | None]:
    """The mean cosines of the pairs, of each group of them, and of all combinations."""
    result: dict[str, float | None] = {}
    for suffix, member in zip(SUFFIXES, (seen | ~seen, seen, ~seen), strict=True):
        some = cosines[member]
        result[f"cosine_true{suffix}"] = some.mean().item() if len(some) else None
    # The mean of all products is the product of the means; not by @, which autocast would blur.
    means = [unit.mean(0) for unit in units]
    result["cosine_random"] = (means[0] * means[1]).sum().item()
    return result


def _weighted(by_group: Tensor, words: Mapping[str, Tensor]) -> dict[str, float | None]:
    """P@1 in percent over parts of the words, or by other weights, from [group, word] ranks."""
    result: dict[str, float | None] = {}
    for suffix, ranks in zip(SUFFIXES, (by_group.amin(0), *by_group), strict=True):
        ranked = ranks.isfinite()
        for name, weights in words.items():
            shares = weights.to(ranks.device).double() * ranked
            right, whole = (shares * (ranks <= 1)).sum().item(), shares.sum().item()
            result[f"p1{suffix}_{name}"] = 100 * right / whole if whole else None
    return result


class AlignmentMetric(evaluate.Metric):
    """`alignment_scores` as a Hugging Face `evaluate` metric: the rows i are a true pair.

    Args:
        predictions: embeddings of the original words, one row each.
        references: embeddings of their counterparts in the derived language, in the same order.
        seen: list of bools, one a row: was the pair trained on? Default: all were.
        csls_neighbours: neighbours in the hub correction. Default: 10.
    Returns: the dictionary of `alignment_scores`, with its errors and sources. No network needed.
    """

    def _info(self) -> evaluate.MetricInfo:
        row = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description="How well two languages are aligned: P@k, MRR and CSLS of true pairs.",
            citation=f"{AlignMLM.citation}\n{_CSLS}",
            inputs_description=str(AlignmentMetric.__doc__),
            features=datasets.Features({"predictions": row, "references": row}),
            reference_urls=["https://arxiv.org/abs/2211.08547", "https://arxiv.org/abs/1710.04087"],
        )

    def _compute(
        self, predictions: Any, references: Any, seen: Any = None, csls_neighbours: int = 10
    ) -> dict[str, float | None]:
        return alignment_scores(
            torch.tensor(predictions),
            torch.tensor(references),
            torch.arange(len(predictions))[:, None].expand(-1, 2),
            None if seen is None else torch.tensor(seen),
            csls_neighbours=csls_neighbours,
        )
