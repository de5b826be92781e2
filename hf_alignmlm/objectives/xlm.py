"""Masked and translation language modelling: a sentence and its twin masked jointly (XLM).

Originals fill the first half of a sequence and their twins the second, where positions start
again: for a length of 8 they are [0, 1, 2, 3, 0, 1, 2, 3].
"""

from dataclasses import dataclass

from hf_alignmlm.arguments import option
from hf_alignmlm.objectives.base import Objective, register_objective


@register_objective("xlm")
@dataclass(frozen=True)
class XLM(Objective):
    """Options of the objective xlm."""

    title = "masked and translation language modelling (XLM)"
    colour = "#E69F00"
    citation = """\
@inproceedings{lample2019cross,
  title     = {Cross-lingual Language Model Pretraining},
  author    = {Lample, Guillaume and Conneau, Alexis},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2019},
  note      = {arXiv:1901.07291}
}"""
    restarts_positions = True
    tells_languages = True

    tlm_rate: float = option(1.0, "Share of the sentences that also give a pair.")

    @property
    def pair_rate(self) -> float:
        return self.tlm_rate
