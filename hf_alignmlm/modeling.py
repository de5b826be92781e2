"""Masked language modelling plus alignment: L = L_MLM + α · L_align (ALIGN-MLM, section 2.2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, BertForMaskedLM
from transformers.modeling_outputs import MaskedLMOutput
from transformers.models.bert.modeling_bert import eager_attention_forward
from transformers.utils import cached_file, can_return_tuple

from hf_alignmlm.configuration import AlignedBertConfig
from hf_alignmlm.dictionary import DICTIONARY_FILE, BilingualDictionary, WordPieces

IGNORE_INDEX = -100


# Elements in a block of work: on a CPU what its cache holds, elsewhere what keeps a device busy.
BLOCK = {"cpu": 1 << 18}


def _blocks(like: Tensor, rows: int, width: int) -> Iterator[slice]:
    size = max(1, BLOCK.get(like.device.type, 1 << 28) // width)
    yield from (slice(start, start + size) for start in range(0, rows, size))


# Runs shorter than this are looked up row by row.
SHORTEST_RUN = 64
Runs = list[tuple[int, int, int]]


def _runs(pairs: Tensor) -> Runs | None:
    """Pairs [2, |D|] as (row, row, length) where both sides run on; None where few do.

    A vocabulary and its twin do, and slices of a matrix need no copy of its rows.
    """
    ends = torch.nonzero((pairs.diff() != 1).any(0)).flatten().add(1).tolist()
    starts, stops = [0, *ends], [*ends, pairs.shape[1]]
    if len(starts) * SHORTEST_RUN > pairs.shape[1]:
        return None
    rows = zip(*pairs[:, starts].tolist(), strict=True)
    return [(*two, b - a) for two, a, b in zip(rows, starts, stops, strict=True)]


def _pair_blocks(
    weight: Tensor, pairs: Tensor, runs: Runs | None
) -> Iterator[tuple[slice, tuple[Any, Any]]]:
    """Blocks of pairs: which these are, and each side's rows, as a slice or by number."""
    done = 0
    for left, right, length in runs or [(0, 0, pairs.shape[1])]:
        for block in _blocks(weight, length, weight.shape[1]):
            start, stop = block.start, min(block.stop, length)
            which = slice(done + start, done + stop)
            sides = [slice(side + start, side + stop) for side in (left, right)]
            yield which, tuple(sides if runs else pairs[:, which])
        done += length


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
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, labels = ctx.saved_tensors
        result = torch.empty_like(logits)
        weights = (gradient * (labels != IGNORE_INDEX))[:, None]
        targets = labels.clamp(min=0)[:, None]
        for block in _blocks(logits, *logits.shape):
            shares = logits[block].float().softmax(1).mul_(weights[block])
            result[block] = shares.scatter_add_(1, targets[block], -weights[block])
        return result, None


class _TiedEmbeddings(torch.autograd.Function):
    """All uses of the tied word embeddings at once, so that one matrix of gradients is written.

    From [vocabulary, d] embeddings: the rows of `ids`, the matrix in the `dtype` of the output
    layer, and −(1/|D|) Σ cos(E_i, E_j) over the rows of `pairs` [2, |D|]; without ids or pairs,
    none of these. The gradient of the cosines at E_i is
    (cos · E_i / |E_i|² − E_j / |E_i||E_j|) / |D|; left to autograd it took a third of a training
    step (benchmarks/README.md).
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        ids: Tensor | None,
        pairs: Tensor | None,
        dtype: torch.dtype,
        runs: Runs | None = None,
        padding: int | None = None,
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        norms = cosines = None
        if pairs is not None:
            norms = torch.empty(pairs.shape, device=weight.device)
            cosines = torch.empty_like(norms[0])
            for block, sides in _pair_blocks(weight, pairs, runs):
                left, right = (weight[side].float() for side in sides)
                torch.linalg.vector_norm(left, dim=1, out=norms[0, block])
                torch.linalg.vector_norm(right, dim=1, out=norms[1, block])
                torch.sum(left * right, 1, out=cosines[block])
            cosines /= norms.clamp_(min=1e-8).prod(0)
        ctx.save_for_backward(weight, ids, pairs, norms, cosines)
        ctx.runs, ctx.padding = runs, padding
        rows = None if ids is None else F.embedding(ids, weight)
        return rows, weight.to(dtype, copy=True), None if cosines is None else -cosines.mean()

    @staticmethod
    def backward(ctx: Any, rows: Any, table: Any, alignment: Any) -> tuple[Any, ...]:
        weight, ids, pairs, norms, cosines = ctx.saved_tensors
        result = torch.zeros_like(weight) if table is None else table.to(weight.dtype, copy=True)
        if rows is not None:
            rows = rows.to(weight.dtype)
            if ctx.padding is not None:
                rows = rows.masked_fill((ids == ctx.padding)[..., None], 0)
            result.index_add_(0, ids.flatten(), rows.flatten(0, -2))
        if alignment is not None:
            scale = alignment / len(cosines)
            own, other = scale * cosines / norms.square(), (scale / norms.prod(0))[:, None]
            for block, sides in _pair_blocks(weight, pairs, ctx.runs):
                both = [weight[side].float() for side in sides]
                for side, mine, twin, factor in zip(sides, both, both[::-1], own, strict=True):
                    part = torch.addcmul(mine * factor[block, None], twin, other[block], value=-1)
                    if ctx.runs:
                        result[side] += part
                    else:
                        result.index_add_(0, side, part.to(weight.dtype))
        return result, None, None, None, None, None


def cosine_alignment_loss(original: Tensor, derived: Tensor) -> Tensor:
    """−(1/|D|) Σ cos(E_i, E_j) over paired rows [pairs, d]: ALIGN-MLM's L_align, in −1 to 1."""
    return -F.cosine_similarity(original.float(), derived.float(), dim=-1).mean()


# Room for others (a contrastive one, say): a loss takes the paired embeddings and gives a scalar.
ALIGNMENT_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": cosine_alignment_loss}


def _product_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type of matrix products: autocast's, where it is on."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if enabled else dtype


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """A mask to be added to attention scores, of their type: a wider one would widen them all."""
    if mask.dim() == 2:
        if mask.all():
            return None
        mask = mask[:, None, None]
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask == 0, torch.finfo(dtype).min)


# Attention by plain matrix products, of which training keeps at most so many scores for a gradient.
PLAIN_ATTENTION, SCORES_KEPT = "eager_recomputed", 1 << 22


def _plain_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The library's eager attention; in training long sequences' scores are worked out again."""
    scores = query.shape[:-1].numel() * key.shape[-2]
    if scores <= SCORES_KEPT or not torch.is_grad_enabled():
        return eager_attention_forward(module, query, key, value, attention_mask, **kwargs)

    def attend(*inputs: Any) -> Tensor:
        return eager_attention_forward(module, *inputs, **kwargs)[0]

    inputs = (query, key, value, attention_mask)
    return checkpoint(attend, *inputs, use_reentrant=False), None


AttentionInterface.register(PLAIN_ATTENTION, _plain_attention)


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
