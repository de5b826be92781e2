"""Masked language modelling plus alignment: L = L_MLM + α · L_align (ALIGN-MLM, section 2.2)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertForMaskedLM
from transformers.modeling_outputs import MaskedLMOutput
from transformers.utils import cached_file, can_return_tuple

from hf_alignmlm.data.dictionary import DICTIONARY_FILE, BilingualDictionary, WordPieces
from hf_alignmlm.models.alignment_loss import ALIGNMENT_LOSSES
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.kernels import (
    PLAIN_ATTENTION,
    Runs,
    _additive,
    _CrossEntropy,
    _product_dtype,
    _runs,
    _TiedEmbeddings,
)
from hf_alignmlm.objectives.base import IGNORE_INDEX


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
        self.dictionary_words = torch.nn.ModuleList()
        self._pair_runs: Runs | None = None

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
        self.dictionary_words = torch.nn.ModuleList(words)
        rows = self._row_pairs()
        self._pair_runs = None if rows is None else _runs(rows)
        self.dictionary_words.to(self.device)

    def compute_alignment_loss(self) -> Tensor | None:
        """L_align over the seen pairs, from the input word embeddings; None without any."""
        if self.dictionary is None or not self.dictionary.seen:
            return None
        weight = self.get_input_embeddings().weight
        with torch.autocast(self.device.type, enabled=False):
            if (pairs := self._row_pairs()) is not None:
                return _TiedEmbeddings.apply(weight, None, pairs, weight.dtype, self._pair_runs)[2]
            loss = ALIGNMENT_LOSSES[self.config.alignment_loss_type]
            return loss(*(words(weight.float()) for words in self.dictionary_words))

    def _row_pairs(self) -> Tensor | None:
        """The seen pairs as rows of the embeddings, where cosines of such are what is wanted."""
        if not self.dictionary_words or self.config.alignment_loss_type != "cosine":
            return None
        original, derived = self.dictionary_words
        if original.offsets is not None or derived.offsets is not None:
            return None
        return torch.stack([original.pieces, derived.pieces])

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
        keep_logits: bool = True,
        **kwargs: Any,
    ) -> AlignedMaskedLMOutput:
        """A masked LM's forward pass.

        Shapes: ids and masks [batch, length]; `attention_mask` may be boolean [batch, 1, length,
        length]; `labels` hold −100 where there is nothing to predict. `num_items_in_batch` is the
        number of labels of the whole batch of which this is a part (accumulation, processes): the
        parts' losses then add up to that of the whole. `sparse_logits` leaves out the logits of
        unlabelled positions; by default while training only. `keep_logits` returns them beside the
        loss: under mixed precision the library then makes a float32 copy of them. (No name but
        `labels` may have "label" in it: the library's Trainer would wait for such an input and
        compute no loss.)
        """
        dtype = _product_dtype(self.device, self.dtype)
        plain = self.config._attn_implementation in ("eager", PLAIN_ATTENTION)
        if attention_mask is not None and plain:
            attention_mask = _additive(attention_mask, dtype)
        embeddings, head = self.get_input_embeddings(), self.cls.predictions
        weight, alignment_loss = head.decoder.weight, None
        if input_ids is not None and weight is embeddings.weight:
            aligned = labels is not None and self.config.alignment_loss_weight
            pairs = self._row_pairs() if aligned else None
            with torch.autocast(self.device.type, enabled=False):
                inputs_embeds, weight, alignment_loss = _TiedEmbeddings.apply(
                    weight, input_ids, pairs, dtype, self._pair_runs, embeddings.padding_idx
                )
            input_ids = None
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
        logits = F.linear(head.transform(states), weight, head.decoder.bias)
        if labels is not None:
            if alignment_loss is None and self.config.alignment_loss_weight:
                alignment_loss = self.compute_alignment_loss()
            parts = self._losses(logits, labels, alignment_loss, num_items_in_batch)
        return AlignedMaskedLMOutput(
            logits=logits if keep_logits or labels is None else None,
            hidden_states=hidden.hidden_states,
            attentions=hidden.attentions,
            **parts,
        )

    def _losses(
        self,
        logits: Tensor,
        labels: Tensor,
        alignment_loss: Tensor | None,
        num_items_in_batch: Tensor | int | None,
    ) -> dict[str, Tensor]:
        total = _CrossEntropy.apply(logits.view(-1, logits.shape[-1]), labels.view(-1))
        count = labels.ne(IGNORE_INDEX).sum()
        whole = count if num_items_in_batch is None else num_items_in_batch
        whole = torch.as_tensor(whole, device=total.device).clamp(min=1)
        parts = {"loss": total / whole, "mlm_loss": total.detach() / count.clamp(min=1)}
        if alignment_loss is not None:
            # Each part of a batch carries its share of the alignment loss, or cutting a batch in
            # four would weigh it fourfold.
            share = count / whole if num_items_in_batch is not None else 1.0
            parts["loss"] = (
                parts["loss"] + self.config.alignment_loss_weight * share * alignment_loss
            )
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
