"""A toy objective: some of the chosen positions keep their word, so the model sees the answer."""

from dataclasses import dataclass

import numpy as np

from hf_alignmlm import Objective, register_objective
from hf_alignmlm.arguments import option


@register_objective("toy-mlm")
@dataclass(frozen=True)
class ToyMLM(Objective):
    """Options of the objective toy-mlm."""

    title = "masked language modelling with answers in sight (a toy)"
    citation = "@misc{toy2026objective, title = {A Toy Objective}}"
    colour = "#0072B2"

    keep_share: float = option(0.5, "Share of the chosen positions that keep their word.")

    def replace(self, ids, masked, draws, prepared):
        """A chosen position keeps its word where its spare number is below `keep_share`."""
        return np.where(draws.spare[0] < self.keep_share, ids, masked), ids
