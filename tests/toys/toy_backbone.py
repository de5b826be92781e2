"""A toy backbone: ALBERT, which the package does not have."""

from transformers import AlbertForMaskedLM

from hf_alignmlm import AlignedMaskedLM, register_backbone


@register_backbone("albert")
class ToyAlbert(AlignedMaskedLM, AlbertForMaskedLM):
    """ALBERT."""

    def _logits(self, states):
        return self.predictions(states)
