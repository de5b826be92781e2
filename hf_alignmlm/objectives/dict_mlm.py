"""Masked language modelling with dictionary swaps (DICT-MLM, arXiv 2010.12566)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_alignmlm.arguments import option
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.objectives.base import Draws, Objective, register_objective

VARIANTS = ("input", "label")


@register_objective("dict-mlm")
@dataclass(frozen=True)
class DictMLM(Objective):
    """Options of the objective dict-mlm."""

    title = "masked language modelling with dictionary swaps (DICT-MLM)"
    colour = "#56B4E9"
    citation = """\
@article{chaudhary2020dict,
  title   = {{DICT-MLM}: Improved Multilingual Pre-Training using Bilingual Dictionaries},
  author  = {Chaudhary, Aditi and Raman, Karthik and Srinivasan, Krishna and Chen, Jiecao},
  journal = {arXiv preprint arXiv:2010.12566},
  year    = {2020}
}"""

    swap_probability: float = option(0.5, "Share of the chosen positions that are cross-lingual.")
    dict_mlm_variant: str = option(
        "input",
        "A swap changes the input (as released with ALIGN-MLM) or the label (DICT-MLM's paper).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (variant := self.dict_mlm_variant) not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise ValueError(f"unknown dict_mlm_variant {variant!r}: known are {known}")

    def prepare(
        self, dictionary: BilingualDictionary | None, vocab_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per token id, the number of its counterparts and their ids, in both directions.

        For the pairs (1, 5) and (1, 6): token 1 has the counterparts 5 and 6, tokens 5 and 6 have
        1. ValueError without a seen pair of one piece each.
        """
        counterparts: list[list[int]] = [[] for _ in range(vocab_size)]
        for original, derived in dictionary.single_piece_pairs() if dictionary else ():
            counterparts[original].append(derived)
            counterparts[derived].append(original)
        counts = np.array([len(others) for others in counterparts])
        if not counts.any():
            raise ValueError("dict-mlm needs a dictionary with seen pairs of one piece each")
        table = np.zeros((vocab_size, counts.max()), dtype=np.int64)
        for row, others in zip(table, counterparts, strict=True):
            row[: len(others)] = others
        return counts, table

    def replace(
        self, ids: np.ndarray, masked: np.ndarray, draws: Draws, prepared: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """As BERT, but a share of the positions that have a counterpart are cross-lingual."""
        counts, counterparts = prepared
        swap, pick = draws.spare
        crossed = (swap < self.swap_probability) & (counts[ids] > 0)
        other = counterparts[ids, (pick * counts[ids]).astype(int)]
        if self.dict_mlm_variant == "input":
            return np.where(crossed, other, masked), ids
        return masked, np.where(crossed, other, ids)
