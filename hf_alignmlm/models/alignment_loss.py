"""Alignment losses: what pulls the embeddings of a pair together."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def cosine_alignment_loss(original: Tensor, derived: Tensor) -> Tensor:
    """−(1/|D|) Σ cos(E_i, E_j) over paired rows [pairs, d]: ALIGN-MLM's L_align, in −1 to 1."""
    return -F.cosine_similarity(original.float(), derived.float(), dim=-1).mean()


# Room for others (a contrastive one, say): a loss takes the paired embeddings and gives a scalar.
ALIGNMENT_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": cosine_alignment_loss}
