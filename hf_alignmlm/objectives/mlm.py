"""Masked language modelling of both languages, mixed (BERT, arXiv 1810.04805)."""

from hf_alignmlm.objectives.base import Objective, register_objective


@register_objective("mlm")
class MLM(Objective):
    """Options of the objective mlm."""

    title = "masked language modelling"
    colour = "#999999"
    citation = """\
@inproceedings{devlin2019bert,
  title     = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  author    = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  booktitle = {Proceedings of NAACL-HLT},
  year      = {2019},
  note      = {arXiv:1810.04805}
}"""
