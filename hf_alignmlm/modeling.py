"""Masked language modelling plus alignment: L = L_MLM + α · L_align (ALIGN-MLM, section 2.2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertForMaskedLM
from transformers.modeling_outputs import MaskedLMOutput
from transformers.utils import cached_file, can_return_tuple

from hf_alignmlm.configuration import AlignedBertConfig
from hf_alignmlm.dictionary import DICTIONARY_FILE, BilingualDictionary, WordPieces

IGNORE_INDEX = -100


# Elements that a block of work has: on a CPU as many as its cache holds, on others all that fit well.
BLOCK = {"cpu": 1 << 18}


def _blocks(like: Tensor, rows: int, width: int) -> Iterator[slice]:
    size = max(1, BLOCK.get(like.device.type, 1 << 28) // width)
    yield from (slice(start, start + size) for start in range(0, rows, size))


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of [rows, vocabulary] logits, in float32 a block of rows at a time.

    At once, the float32 copies of the logits and of their gradient are most of a step's memory.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        ctx.save_for_backward(logits, labels)
        total = torch.zeros((), device=logits.device)
        for block in _blocks(logits, *logits.shape):
            total += F.cross_entropy(logits[block].float(), labels[block], reduction="sum")
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        logits, labels = ctx.saved_tensors
        result = torch.empty_like(logits)
        weights = (gradient * (labels != IGNORE_INDEX))[:, None]
        targets = labels.clamp(min=0)[:, None]
        for block in _blocks(logits, *logits.shape):
            shares = logits[block].float().softmax(1).mul_(weights[block])
            result[block] = shares.scatter_add_(1, targets[block], -weights[block])
        return result, None


class _CosineAlignment(torch.autograd.Function):
    """−(1/|D|) Σ cos(E_i, E_j) over rows of an embedding matrix, a block of pairs at a time.

    The gradient at E_i is (cos · E_i / |E_i|² − E_j / |E_i||E_j|) / |D|. Left to autograd, the same
    took a third of a training step (benchmarks/README.md).
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, original: Tensor, derived: Tensor) -> Tensor:
        size = len(original)
        norms = torch.empty(2, size, device=embeddings.device)
        cosines = torch.empty(size, device=embeddings.device)
        for block in _blocks(embeddings, size, embeddings.shape[1]):
            left, right = (embeddings[side[block]].float() for side in (original, derived))
            for rows, out in zip((left, right), norms[:, block], strict=True):
                torch.linalg.vector_norm(rows, dim=1, out=out)
            torch.sum(left.mul_(right), 1, out=cosines[block])
        norms.clamp_(min=1e-8)
        cosines /= norms[0] * norms[1]
        ctx.save_for_backward(embeddings, original, derived, norms, cosines)
        return -cosines.mean()

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        embeddings, original, derived, norms, cosines = ctx.saved_tensors
        result = torch.zeros_like(embeddings)
        scale = gradient / len(original)
        own, other = scale * cosines / norms.square(), (scale / (norms[0] * norms[1]))[:, None]
        for block in _blocks(embeddings, len(original), embeddings.shape[1]):
            sides = original[block], derived[block]
            rows = [embeddings[side].float() for side in sides]
            for side, mine, twin, factor in zip(sides, rows, rows[::-1], own, strict=True):
                part = torch.addcmul(mine * factor[block, None], twin, other[block], value=-1)
                result.index_add_(0, side, part.to(result.dtype))
        return result, None, None


def cosine_alignment_loss(original: Tensor, derived: Tensor) -> Tensor:
    """−(1/|D|) Σ cos(E_i, E_j) over paired rows [pairs, d]: ALIGN-MLM's L_align, in −1 to 1."""
    return -F.cosine_similarity(original.float(), derived.float(), dim=-1).mean()


# Room for others (a contrastive one, say): a loss takes the paired embeddings and gives a scalar.
ALIGNMENT_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": cosine_alignment_loss}


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """A mask to be added to attention scores, of their type: a wider one would widen them all."""
    if mask.dim() == 2:
        if mask.all():
            return None
        mask = mask[:, None, None]
    if torch.is_autocast_enabled(mask.device.type):
        dtype = torch.get_autocast_dtype(mask.device.type)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask == 0, torch.finfo(dtype).min)


@dataclass
class AlignedMaskedLMOutput(MaskedLMOutput):
    """A masked LM's output with each part of the loss under its own name.

    The new fields come last, so that a tuple has the logits where every masked LM has them.

    Parameters:
        loss: what to minimise, `mlm_loss + α · alignment_loss`; None without labels.
        logits: [batch, length, vocabulary], or [labels, vocabulary] of the labelled positions.
        mlm_loss: mean cross-entropy over the labelled positions of this batch, detached.
        alignment_loss: L_align over the seen pairs, −1 to 1, detached; None without a dictionary.
    """

    mlm_loss: Tensor | None = None
    alignment_loss: Tensor | None = None


class BertForAlignedMaskedLM(BertForMaskedLM):
    """BERT with a masked-LM head, trained to give words of like meaning like embeddings.

    Its weights are those of plain `BertForMaskedLM`, so every stock Auto class loads a checkpoint.
    The dictionary is an input of training (`set_dictionary`), saved beside the weights.
    """

    config_class = AlignedBertConfig
    config: AlignedBertConfig

    def __init__(self, config: AlignedBertConfig):
        super().__init__(config)
        # The library guesses the loss from the class's name and would take the causal one.
        self.loss_type = "ForMaskedLM"
        self.dictionary: BilingualDictionary | None = None

    def set_dictionary(self, dictionary: BilingualDictionary | None) -> None:
        """Give the model the pairs to align; None takes them away. `ValueError` for unknown ids."""
        pairs = dictionary.seen if dictionary is not None else ()
        size = self.config.vocab_size
        if any(not 0 <= i < size for pair in pairs for word in pair for i in word):
            raise ValueError(f"the dictionary has ids outside the model's vocabulary of {size}")
        if self.config.alignment_loss_type not in ALIGNMENT_LOSSES:
            raise ValueError(
                f"unknown alignment_loss_type {self.config.alignment_loss_type!r}: "
                f"known are {', '.join(ALIGNMENT_LOSSES)}"
            )
        self.dictionary = dictionary
        words = [WordPieces([pair[side] for pair in pairs]) for side in (0, 1)] if pairs else []
        self.dictionary_words = torch.nn.ModuleList(words).to(self.device)

    def compute_alignment_loss(self) -> Tensor | None:
        """L_align over the seen pairs, from the input word embeddings; None without any."""
        if self.dictionary is None or not self.dictionary.seen:
            return None
        embeddings = self.get_input_embeddings().weight
        original, derived = self.dictionary_words
        if self.config.alignment_loss_type == "cosine" and original.offsets is derived.offsets:
            # Both None: words of one piece each, which are rows of the matrix.
            return _CosineAlignment.apply(embeddings, original.pieces, derived.pieces)
        loss = ALIGNMENT_LOSSES[self.config.alignment_loss_type]
        with torch.autocast(str(embeddings.device.type), enabled=False):
            return loss(*(words(embeddings.float()) for words in self.dictionary_words))

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        sparse_logits: bool | None = None,
        **kwargs: Any,
    ) -> AlignedMaskedLMOutput:
        """A masked LM's forward pass.

        Shapes: ids and masks [batch, length]; `attention_mask` may be boolean [batch, 1, length,
        length]; `labels` hold −100 where there is nothing to predict. `num_items_in_batch` is the
        number of labels of the whole batch of which this is a part (accumulation, processes): the
        parts' losses then add up to that of the whole. `sparse_logits` leaves out the logits of
        unlabelled positions; by default while training only. (No name but `labels` may have "label"
        in it: the library's Trainer would wait for such an input and compute no loss.)
        """
        if attention_mask is not None and self.config._attn_implementation == "eager":
            attention_mask = _additive(attention_mask, self.dtype)
        hidden = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        states, parts = hidden.last_hidden_state, {}
        if labels is not None and (self.training if sparse_logits is None else sparse_logits):
            labelled = labels != IGNORE_INDEX
            states, labels = states[labelled], labels[labelled]
        logits = self.cls(states)
        if labels is not None:
            parts = self._losses(logits, labels, num_items_in_batch)
        return AlignedMaskedLMOutput(
            logits=logits,
            hidden_states=hidden.hidden_states,
            attentions=hidden.attentions,
            **parts,
        )

    def _losses(
        self, logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None
    ) -> dict[str, Tensor]:
        total = _CrossEntropy.apply(logits.view(-1, logits.shape[-1]), labels.view(-1))
        count = labels.ne(IGNORE_INDEX).sum()
        whole = count if num_items_in_batch is None else num_items_in_batch
        whole = torch.as_tensor(whole, device=total.device).clamp(min=1)
        parts = {"loss": total / whole, "mlm_loss": total.detach() / count.clamp(min=1)}
        weight = self.config.alignment_loss_weight
        alignment_loss = self.compute_alignment_loss() if weight else None
        if alignment_loss is not None:
            # Each part of a batch carries its share of the alignment loss, or cutting a batch in
            # four would weigh it fourfold.
            share = count / whole if num_items_in_batch is not None else 1.0
            parts["loss"] = parts["loss"] + weight * share * alignment_loss
            parts["alignment_loss"] = alignment_loss.detach()
        return parts

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], **kwargs: Any
    ) -> None:
        """Save plain BERT weights, and the dictionary beside them where there is one."""
        super().save_pretrained(save_directory, **kwargs)
        if self.dictionary is not None and kwargs.get("is_main_process", True):
            self.dictionary.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any
    ) -> BertForAlignedMaskedLM:
        """Load a checkpoint, and the dictionary that lies beside it, from disk or the Hub."""
        model = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        names = (
            "cache_dir",
            "force_download",
            "local_files_only",
            "token",
            "revision",
            "subfolder",
        )
        options = {name: kwargs[name] for name in names if name in kwargs}
        path = pretrained_model_name_or_path and cached_file(
            pretrained_model_name_or_path,
            DICTIONARY_FILE,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **options,
        )
        if path:
            (model[0] if isinstance(model, tuple) else model).set_dictionary(
                BilingualDictionary.from_pretrained(path)
            )
        return model
