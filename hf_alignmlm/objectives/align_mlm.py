"""Masked language modelling with aligned embeddings (ALIGN-MLM, arXiv 2211.08547).

Its own part is a term of the model's loss: hf_alignmlm.models.alignment_loss.
"""

from hf_alignmlm.objectives.base import Objective, register_objective


@register_objective("align-mlm")
class AlignMLM(Objective):
    """Options of the objective align-mlm."""

    title = "masked language modelling with embedding alignment (ALIGN-MLM)"
    colour = "#009E73"
    alignment_loss_weight = 10.0
    citation = """\
@article{tang2022alignmlm,
  title   = {{ALIGN-MLM}: Word Embedding Alignment is Crucial for Multilingual Pre-training},
  author  = {Tang, Henry and Deshpande, Ameet and Narasimhan, Karthik},
  journal = {arXiv preprint arXiv:2211.08547},
  year    = {2022}
}"""
