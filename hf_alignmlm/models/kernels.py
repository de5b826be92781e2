"""The fast paths of training: cross-entropy, embeddings, attention. Tests have their plain twins.

They go round modules that they know: `may_tie` says where that changes nothing but the time.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.models.bert.modeling_bert import (
    BertLMPredictionHead,
    BertOnlyMLMHead,
    eager_attention_forward,
)

from hf_alignmlm.objectives.base import IGNORE_INDEX

# Elements in a block of work: on a CPU what its cache holds, elsewhere what keeps a device busy.
BLOCK = {"cpu": 1 << 18}
# Runs shorter than this are looked up row by row.
SHORTEST_RUN = 64
Runs = list[tuple[int, int, int]]


def _blocks(like: Tensor, rows: int, width: int) -> Iterator[slice]:
    size = max(1, BLOCK.get(like.device.type, 1 << 28) // width)
    yield from (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def pair_runs(pairs: Tensor) -> Runs | None:
    """Pairs [2, |D|] as (row, row, length) where both sides run on; None where few do.

    A vocabulary and its twin do, and slices of a matrix need no copy of its rows.
    """
    ends = torch.nonzero((pairs.diff() != 1).any(0)).flatten().add(1).tolist()
    starts, stops = [0, *ends], [*ends, pairs.shape[1]]
    if len(starts) * SHORTEST_RUN > pairs.shape[1]:
        return None
    rows = zip(*pairs[:, starts].tolist(), strict=True)
    return [(*two, b - a) for two, a, b in zip(rows, starts, stops, strict=True)]


def _pair_blocks(weight: Tensor, pairs: Tensor, runs: Runs | None) -> Iterator[tuple[slice, Any]]:
    """Blocks of pairs: which these are, and each side's rows, as a slice or by number."""
    done = 0
    for left, right, length in runs or [(0, 0, pairs.shape[1])]:
        for block in _blocks(weight, length, weight.shape[1]):
            which, *sides = (slice(at + block.start, at + block.stop) for at in (done, left, right))
            yield which, sides if runs else pairs[:, which]
        done += length


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy of [rows, vocabulary] logits in float32; labels of −100 do not count."""
    return _CrossEntropy.apply(logits, labels)


class _CrossEntropy(torch.autograd.Function):
    """In one piece, the float32 copies of logits and gradient are most of a step's memory."""

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


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of the module does what its class says and nothing else.

    A hook, an adapter, a parametrization or offloading makes it do more.
    """
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    more = any(hooks) or bool(module._backward_pre_hooks) or "forward" in vars(module)
    return type(module) is kind and not more


def may_tie(model: PreTrainedModel) -> bool:
    """Whether the word embeddings and the head of a BERT may be used without calling them."""
    embeddings: Any = model.get_input_embeddings()
    cls: Any = model.cls
    decoder = cls.predictions.decoder
    modules = (embeddings, cls, cls.predictions, decoder)
    kinds = (nn.Embedding, BertOnlyMLMHead, BertLMPredictionHead, nn.Linear)
    return (
        all(map(is_plain, modules, kinds))
        and embeddings.max_norm is None
        and decoder.weight is embeddings.weight
        and type(embeddings.weight) is nn.Parameter  # no shard of one
    )


def tied_embeddings(
    weight: Tensor,
    ids: Tensor | None,
    dtype: torch.dtype,
    rows: Tensor | None = None,
    runs: Runs | None = None,
    padding: int | None = None,
) -> tuple[Any, Tensor, Any]:
    """Rows of `ids`, the matrix in `dtype`, and −(1/|D|) Σ cos(E_i, E_j) over `rows` [2, |D|].

    One operation, so that one matrix of gradients is written. Without `ids` or `rows` their results
    are None. `padding` is the id whose row gets no gradient from `ids`.
    """
    with torch.autocast(weight.device.type, enabled=False):
        return _TiedEmbeddings.apply(weight, ids, dtype, rows, runs, padding)


class _TiedEmbeddings(torch.autograd.Function):
    """The gradient of the cosines at E_i is (cos · E_i / |E_i|² − E_j / |E_i||E_j|) / |D|.

    Left to autograd it took a third of a training step (benchmarks/README.md).
    """

    @staticmethod
    def forward(ctx: Any, weight: Any, ids: Any, dtype: Any, pairs: Any, runs: Any, padding: Any):  # type: ignore[no-untyped-def]
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


def product_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type of matrix products: autocast's, where it is on."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if enabled else dtype


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """A mask to be added to attention scores, of their type: a wider one would widen them all."""
    if mask.dim() == 2:
        if mask.all():
            return None  # nothing to hide
        mask = mask[:, None, None]
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask == 0, torch.finfo(dtype).min)


# Attention by plain matrix products, of which training keeps at most so many scores for a gradient.
PLAIN_ATTENTION, SCORES_KEPT = "eager_recomputed", 1 << 22


def _plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The library's eager attention; in training, long sequences' scores are worked out again."""
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        # The library adds any mask to the scores; a boolean one would add 1 to what may be seen.
        attention_mask = additive(attention_mask, query.dtype)
    inputs = (module, query, key, value, attention_mask)
    scores = query.shape[:-1].numel() * key.shape[-2]
    if scores <= SCORES_KEPT or not torch.is_grad_enabled():
        return eager_attention_forward(*inputs, **kwargs)

    def attend(*again: Any) -> Tensor:
        return eager_attention_forward(*again, **kwargs)[0]

    return checkpoint(attend, *inputs, use_reentrant=False), None


AttentionInterface.register(PLAIN_ATTENTION, _plain_attention)
# Without a mask function of that name, the library gives its stock models no mask at all.
AttentionMaskInterface.register(PLAIN_ATTENTION, eager_mask)
