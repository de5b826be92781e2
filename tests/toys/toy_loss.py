"""A toy alignment loss: the mean squared distance of the pairs."""

from hf_alignmlm import AlignmentLoss, register_alignment_loss


@register_alignment_loss("toy-distance")
class ToyDistance(AlignmentLoss):
    """Mean squared distance between the embeddings of a pair."""

    title = "squared distance (a toy)"
    citation = "@misc{toy2026loss, title = {A Toy Loss}}"

    def forward(self, embeddings):
        """A scalar from [V, d] embeddings."""
        original, derived = self.pairs(embeddings)
        return (original - derived).square().sum(1).mean()
