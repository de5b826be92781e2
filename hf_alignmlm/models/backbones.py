"""Backbones: the architectures that train with an alignment loss, and how they differ."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    BertForMaskedLM,
    CamembertForMaskedLM,
    DebertaForMaskedLM,
    DebertaV2ForMaskedLM,
    DistilBertForMaskedLM,
    ElectraForMaskedLM,
    ModernBertForMaskedLM,
    RobertaForMaskedLM,
    XLMRobertaForMaskedLM,
)

from hf_alignmlm.models import kernels
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.modeling import WHERE, AlignedMaskedLM, Tied
from hf_alignmlm.objectives.base import Objective
from hf_alignmlm.registry import registrar

# By the model type that a `config.json` names.
BACKBONES: dict[str, type[AlignedMaskedLM]] = {}
register_backbone = registrar(BACKBONES)


def find(config: Any) -> type[AlignedMaskedLM]:
    """The class for a configuration; ValueError lists the known model types."""
    if config.model_type not in BACKBONES:
        raise ValueError(
            f"no alignment for a model of type {config.model_type!r}: known are "
            f"{', '.join(BACKBONES)} (CONTRIBUTING.md says how to add one)"
        )
    return BACKBONES[config.model_type]


class AutoModelForAlignedMaskedLM:
    """A masked LM with an alignment loss, of the class that its configuration asks for."""

    @classmethod
    def from_config(cls, config: Any) -> AlignedMaskedLM:
        """A new model; ValueError for an architecture that is not known."""
        return find(config)(config)

    @classmethod
    def from_pretrained(cls, name: Any, *args: Any, **kwargs: Any) -> Any:
        """`AlignedMaskedLM.from_pretrained` of the class that the checkpoint asks for."""
        return find(read_config(name, **kwargs)).from_pretrained(name, *args, **kwargs)


def read_config(name: Any, **kwargs: Any) -> Any:
    """The configuration in `kwargs`, or the one of that name; ValueError where none reads."""
    if (config := kwargs.get("config")) is not None:
        return config
    where = {option: kwargs[option] for option in WHERE & kwargs.keys()}
    try:
        return AutoConfig.from_pretrained(name, **where)
    except Exception as error:  # whatever a damaged or missing file leads to
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{name} does not load, see its config.json: {error}") from error


@register_backbone("bert")
class BertForAlignedMaskedLM(AlignedMaskedLM, BertForMaskedLM):
    """BERT: its word embeddings, output layer and alignment loss are one operation in training."""

    config_class = AlignedBertConfig
    config: AlignedBertConfig

    def _logits(self, states: Tensor) -> Tensor:
        return self.cls(states)

    def _tied(self, ids: Tensor, aligning: bool) -> Tied | None:
        if not kernels.may_tie(self):
            return None
        embeddings: Any = self.get_input_embeddings()
        dtype = kernels.product_dtype(ids.device, self.dtype)
        loss = self.alignment_loss if aligning else None
        pairs = (None, None) if loss is None else (loss.rows, loss.runs)
        rows, table, alignment_loss = kernels.tied_embeddings(
            embeddings.weight, ids, dtype, *pairs, padding=embeddings.padding_idx
        )
        head = self.cls.predictions

        def to_logits(states: Tensor) -> Tensor:
            return F.linear(head.transform(states), table, head.decoder.bias)

        return rows, to_logits, alignment_loss


class _LikeRoberta(AlignedMaskedLM):
    def _logits(self, states: Tensor) -> Tensor:
        return self.lm_head(states)


@register_backbone("roberta")
class RobertaForAlignedMaskedLM(_LikeRoberta, RobertaForMaskedLM):
    """RoBERTa."""


@register_backbone("xlm-roberta")
class XLMRobertaForAlignedMaskedLM(_LikeRoberta, XLMRobertaForMaskedLM):
    """XLM-R."""


@register_backbone("camembert")
class CamembertForAlignedMaskedLM(_LikeRoberta, CamembertForMaskedLM):
    """CamemBERT."""


@register_backbone("distilbert")
class DistilBertForAlignedMaskedLM(AlignedMaskedLM, DistilBertForMaskedLM):
    """DistilBERT."""

    def _logits(self, states: Tensor) -> Tensor:
        states = self.activation(self.vocab_transform(states))
        return self.vocab_projector(self.vocab_layer_norm(states))


@register_backbone("electra")
class ElectraForAlignedMaskedLM(AlignedMaskedLM, ElectraForMaskedLM):
    """ELECTRA's generator."""

    def _logits(self, states: Tensor) -> Tensor:
        return self.generator_lm_head(self.generator_predictions(states))


@register_backbone("modernbert")
class ModernBertForAlignedMaskedLM(AlignedMaskedLM, ModernBertForMaskedLM):
    """ModernBERT: most of its layers see a window of neighbours alone."""

    def _logits(self, states: Tensor) -> Tensor:
        return self.decoder(self.head(states))

    def _mask(self, mask: Tensor | None) -> Any:
        if mask is None or mask.dim() == 2:
            return mask
        # The library takes a mask of four dimensions as it is, without the window.
        places = torch.arange(mask.shape[-1], device=mask.device)
        near = mask & ((places[:, None] - places).abs() <= self.config.sliding_window)
        # A row that may attend to nothing gives NaN: padding far from any real token sees them all.
        near |= mask & ~near.any(-1, keepdim=True)
        return {"full_attention": super()._mask(mask), "sliding_attention": super()._mask(near)}


class _LikeDeberta(AlignedMaskedLM):
    """DeBERTa: it attends by the distance of places, which no `position_ids` change."""

    deberta: Any
    cls: Any

    def __init__(self, config: Any, *args: Any, **kwargs: Any):
        if not config.legacy:
            raise ValueError("DeBERTa's head of legacy=False cannot be resized: leave that out")
        super().__init__(config, *args, **kwargs)
        self.deberta.embeddings.register_forward_pre_hook(_mask_of_places, with_kwargs=True)

    def _logits(self, states: Tensor) -> Tensor:
        return self.cls(states)

    def _mask(self, mask: Tensor | None) -> Any:
        return mask  # its attention makes of it what it needs

    @classmethod
    def check_batches(cls, config: Any, objective: Objective, length: int, languages: int) -> None:
        super().check_batches(config, objective, length, languages)
        if objective.isolate_sentences and getattr(config, "conv_kernel_size", 0) > 0:
            raise ValueError(
                "this DeBERTa has a convolution, which mixes neighbouring sentences: add "
                "--isolate_sentences False"
            )
        if objective.restarts_positions and config.relative_attention:
            raise ValueError(
                f"{objective.name} counts positions anew in the second half, but this DeBERTa goes "
                "by distance: take another objective, or a model with absolute positions"
            )


def _mask_of_places(module: Any, args: Any, kwargs: Any) -> Any:
    """The embeddings want to know which places are padding: those that no place may see."""
    if (mask := kwargs.get("mask")) is not None and mask.dim() == 4:
        kwargs["mask"] = mask.any(dim=2).squeeze(1)
    return args, kwargs


@register_backbone("deberta")
class DebertaForAlignedMaskedLM(_LikeDeberta, DebertaForMaskedLM):
    """DeBERTa."""


@register_backbone("deberta-v2")
class DebertaV2ForAlignedMaskedLM(_LikeDeberta, DebertaV2ForMaskedLM):
    """DeBERTa-v2, and v3, which shares its code."""
