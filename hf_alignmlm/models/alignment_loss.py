"""Alignment losses: what pulls the embeddings of a pair together. One class a loss."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_alignmlm.data.dictionary import BilingualDictionary, WordPieces, mean_of_pieces
from hf_alignmlm.models.kernels import Runs, pair_runs, tied_embeddings
from hf_alignmlm.objectives.align_mlm import AlignMLM
from hf_alignmlm.registry import registrar

# Pairs of a step, of a dictionary with words of several pieces: few enough that a step of `mini`
# hardly takes longer, while all pairs of a large dictionary would be most of it.
PAIRS_PER_STEP = 4000


class AlignmentLoss(nn.Module):
    """A loss over the seen pairs of a dictionary, from the input word embeddings.

    It takes the dictionary once and [V, d] embeddings at each step, and gives a scalar. Class
    attributes: `name` (of `--alignment_loss_type`), `title`, `citation` (BibTeX, for cards). A word
    of several pieces is the mean of their embeddings; each original word weighs the same, however
    many translations it has, or as `word_weights` says (`BilingualDictionary.weights`).

    Of more than `pairs_per_step` pairs, each step takes so many, drawn by weight, whose mean is an
    unbiased estimate of that over all. By default all are taken where each word is one piece, else
    `PAIRS_PER_STEP`. ValueError for fewer than 1.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    # [2, pairs] rows and their runs, of a loss that the tied embeddings' kernel works out itself.
    rows: Tensor | None
    runs: Runs | None = None
    weights: Tensor | None  # [pairs] of sum 1, of pairs that do not all weigh the same
    drawn: Tensor | None  # the numbers of the step's words, original and derived

    def __init__(
        self,
        dictionary: BilingualDictionary,
        *,
        pairs_per_step: int | None = None,
        word_weights: str = "uniform",
    ):
        super().__init__()
        if pairs_per_step is not None and pairs_per_step < 1:
            raise ValueError(f"alignment_pairs_per_step must be at least 1, not {pairs_per_step}")
        original, derived = zip(*dictionary.seen, strict=True)
        self.words = WordPieces(original + derived)
        shares = np.array(dictionary.weights(word_weights))
        shares /= shares.sum()
        self.register_buffer("rows", None, persistent=False)
        self.register_buffer("weights", None, persistent=False)
        self.register_buffer("drawn", None, persistent=False)
        if pairs_per_step is None:
            pairs_per_step = PAIRS_PER_STEP if self.words.offsets is not None else len(original)
        self.sample = pairs_per_step if pairs_per_step < len(original) else None
        # Where the pairs end on a line from 0 to 1 on which each has its share.
        self._ends = shares.cumsum()
        self._calls: int | None = 0  # None where `draw` is told the step
        self._draw(0)
        if self.sample is None and (shares != shares[0]).any():
            self.weights = torch.tensor(shares, dtype=torch.float32)

    def draw(self, seed: int, step: int) -> None:
        """Take the pairs of an optimizer's step, the same in each process and part of the batch.

        Whoever never calls this gets other pairs at each call of `forward` in training.
        """
        self._calls = None
        self._draw(seed, step)

    def _draw(self, *key: int) -> None:
        if self.sample is None:
            return
        # One point in each of as many equal stretches of the line: each word is drawn as often as
        # by itself, and the mean varies less.
        points = np.arange(self.sample) + np.random.default_rng(key).random(self.sample)
        pairs = torch.from_numpy(np.searchsorted(self._ends[:-1], points / self.sample, "right"))
        self.drawn = torch.cat([pairs, pairs + len(self._ends)]).to(self.words.pieces.device)

    def pairs(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides of the step's pairs, float32 [pairs, d] each, from [V, d] embeddings."""
        if self._calls is not None and self.training:
            self._draw(self._calls)
            self._calls += 1
        if self.drawn is None:
            rows = self.words(embeddings.float())
        else:
            # The rows that are needed, each once, and no copy of the whole matrix.
            pieces, starts = self.words.take(self.drawn)
            needed, pieces = pieces.unique(return_inverse=True)
            rows = mean_of_pieces(embeddings.index_select(0, needed).float(), pieces, starts)
        original, derived = rows.chunk(2)
        return original, derived

    def mean(self, values: Tensor) -> Tensor:
        """The mean over words of what each of the step's pairs gives, from [pairs]."""
        return values.mean() if self.weights is None else (values * self.weights).sum()

    def forward(self, embeddings: Tensor) -> Tensor:
        """The loss, a scalar, from [V, d] embeddings."""
        raise NotImplementedError


ALIGNMENT_LOSSES: dict[str, type[AlignmentLoss]] = {}
register_alignment_loss = registrar(ALIGNMENT_LOSSES)


@register_alignment_loss("cosine")
class CosineAlignmentLoss(AlignmentLoss):
    """−(1/|D|) Σ cos(E_i, E_j): the paper's (ALIGN-MLM, section 2.2)."""

    title = "mean cosine of the pairs"
    citation = AlignMLM.citation

    def __init__(self, dictionary: BilingualDictionary, **options: Any):
        super().__init__(dictionary, **options)
        if self.words.offsets is None and self.sample is None and self.weights is None:
            self.rows = self.words.pieces.view(2, -1)
            self.runs = pair_runs(self.rows)

    def forward(self, embeddings: Tensor) -> Tensor:
        if self.rows is None:
            cosines = F.cosine_similarity(*self.pairs(embeddings), dim=-1)
            return -self.mean(cosines)
        return tied_embeddings(embeddings, None, embeddings.dtype, self.rows, self.runs)[2]
