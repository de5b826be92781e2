"""The four objectives and their options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# Labels of positions where there is nothing to predict, as the library has them.
IGNORE_INDEX = -100


class _Facts(NamedTuple):
    """A stand-in for the objectives' classes: what reports and cards read off them."""

    title: str
    colour: str
    citation: str


def _bibtex(key: str, title: str, author: str, arxiv: str, year: int) -> str:
    return (
        f"@article{{{key},\n  title   = {{{title}}},\n  author  = {{{author}}},\n"
        f"  journal = {{arXiv preprint arXiv:{arxiv}}},\n  year    = {{{year}}}\n}}"
    )


OBJECTIVES = {
    "mlm": _Facts(
        "masked language modelling",
        "#999999",
        _bibtex("devlin2018bert", "{BERT}", "Devlin, Jacob and others", "1810.04805", 2018),
    ),
    "xlm": _Facts(
        "masked and translation language modelling (XLM)",
        "#E69F00",
        _bibtex("lample2019xlm", "{XLM}", "Lample, Guillaume and Conneau, A.", "1901.07291", 2019),
    ),
    "dict-mlm": _Facts(
        "masked language modelling with dictionary swaps (DICT-MLM)",
        "#56B4E9",
        _bibtex("chaudhary2020dictmlm", "{DICT-MLM}", "Chaudhary, A.", "2010.12566", 2020),
    ),
    "align-mlm": _Facts(
        "masked language modelling with embedding alignment (ALIGN-MLM)",
        "#009E73",
        _bibtex(
            "tang2022alignmlm",
            "{ALIGN-MLM}: Word Embedding Alignment is Crucial for Multilingual Pre-training",
            "Tang, Henry and Deshpande, Ameet and Narasimhan, Karthik",
            "2211.08547",
            2022,
        ),
    ),
}


@dataclass(frozen=True)
class Objective:
    """A pre-training objective and its options; probabilities and rates lie between 0 and 1.

    Parameters:
        name: one of `OBJECTIVES`.
        mlm_probability: share of a sequence's tokens, special ones aside, that are predicted.
        tlm_rate: xlm: share of sentences that also give a pair to be masked jointly.
        swap_probability: dict-mlm: share of the chosen positions that are cross-lingual.
        dict_mlm_variant: dict-mlm: `input` swaps the input for its counterpart and keeps the
            original as the label (as released with ALIGN-MLM); `label` masks the input as usual and
            makes the counterpart the label (DICT-MLM's paper).
        language_embeddings: token types tell the languages apart.
        isolate_sentences: a packed sentence attends to itself alone (and to its twin, in a pair),
            with positions of its own.
    """

    name: str = "align-mlm"
    mlm_probability: float = 0.15
    tlm_rate: float = 1.0
    swap_probability: float = 0.5
    dict_mlm_variant: str = "input"
    language_embeddings: bool = False
    isolate_sentences: bool = False

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ValueError(f"unknown objective {self.name!r}: known are {', '.join(OBJECTIVES)}")
        for option in ("mlm_probability", "tlm_rate", "swap_probability"):
            if not 0 <= getattr(self, option) <= 1:
                raise ValueError(f"{option} must lie between 0 and 1, not {getattr(self, option)}")
        if self.dict_mlm_variant not in ("input", "label"):
            raise ValueError(
                f"unknown dict_mlm_variant {self.dict_mlm_variant!r}: known are input, label"
            )
