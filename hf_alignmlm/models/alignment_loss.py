"""Alignment losses: what pulls the embeddings of a pair together. One class a loss."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_alignmlm.data.dictionary import BilingualDictionary, WordPieces
from hf_alignmlm.models.kernels import Runs, pair_runs, tied_embeddings
from hf_alignmlm.objectives.align_mlm import AlignMLM
from hf_alignmlm.registry import registrar


class AlignmentLoss(nn.Module):
    """A loss over the seen pairs of a dictionary, from the input word embeddings.

    It takes the dictionary once and [V, d] embeddings at each step, and gives a scalar. Class
    attributes: `name` (of `--alignment_loss_type`), `title`, `citation` (BibTeX, for cards). A word
    of several pieces is the mean of their embeddings.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    # [2, pairs] rows and their runs, of a loss that the tied embeddings' kernel works out itself.
    rows: Tensor | None
    runs: Runs | None = None

    def __init__(self, dictionary: BilingualDictionary):
        super().__init__()
        self.register_buffer("rows", None, persistent=False)
        self.original, self.derived = (WordPieces(w) for w in zip(*dictionary.seen, strict=True))

    def pairs(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides of the pairs, float32 [pairs, d] each, from [V, d] embeddings."""
        return self.original(embeddings.float()), self.derived(embeddings.float())

    def forward(self, embeddings: Tensor) -> Tensor:
        """The loss, a scalar, from [V, d] embeddings."""
        raise NotImplementedError


ALIGNMENT_LOSSES: dict[str, type[AlignmentLoss]] = {}
register_alignment_loss = registrar(ALIGNMENT_LOSSES)


def cosine_alignment_loss(original: Tensor, derived: Tensor) -> Tensor:
    """−(1/|D|) Σ cos(E_i, E_j) over paired rows [pairs, d]: ALIGN-MLM's L_align, in −1 to 1."""
    return -F.cosine_similarity(original.float(), derived.float(), dim=-1).mean()


@register_alignment_loss("cosine")
class CosineAlignmentLoss(AlignmentLoss):
    """−(1/|D|) Σ cos(E_i, E_j): the paper's (ALIGN-MLM, section 2.2)."""

    title = "mean cosine of the pairs"
    citation = AlignMLM.citation

    def __init__(self, dictionary: BilingualDictionary):
        super().__init__(dictionary)
        if self.original.offsets is None and self.derived.offsets is None:  # one piece each
            self.rows = torch.stack([self.original.pieces, self.derived.pieces])
            self.runs = pair_runs(self.rows)

    def forward(self, embeddings: Tensor) -> Tensor:
        if self.rows is None:
            return cosine_alignment_loss(*self.pairs(embeddings))
        return tied_embeddings(embeddings, None, embeddings.dtype, self.rows, self.runs)[2]
