"""The word embeddings of a model: read, and made for more tokens or fewer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_alignmlm.data.extension import Mixture


def resize_embeddings(model: PreTrainedModel, tokens: int) -> None:
    """Give a masked LM rows for so many tokens; further ones start at random."""
    model.resize_token_embeddings(tokens, mean_resizing=False)
    head = model.get_output_embeddings()
    # Heads of BERT and RoBERTa hold a second bias, for its name in checkpoints. Where matrices are
    # not tied, the library resizes it wrongly, and what it saves does not load.
    for module in () if model.config.tie_word_embeddings else model.modules():
        if head in module.children() and "bias" in dict(module.named_parameters(recurse=False)):
            module.bias = nn.Parameter(head.bias.detach().clone())


@torch.no_grad()
def extend_embeddings(model: PreTrainedModel, mixtures: Sequence[Mixture], size: int) -> None:
    """Give a masked LM of `size` tokens one more for each mixture: that mean of its old rows.

    It is that of the input embeddings and, in the head, of output embeddings, where these are not
    the same, and biases. An empty mixture gives the mean of all old rows.
    """
    resize_embeddings(model, size + len(mixtures))
    # Tied matrices are one parameter, and come once.
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    for rows in {parameter for module in modules for parameter in module.parameters()}:
        mean = rows[:size].mean(0)
        for number, mixture in enumerate(mixtures, size):
            weights = rows.new_tensor(list(mixture.values()))
            rows[number] = torch.tensordot(weights, rows[list(mixture)], 1) if mixture else mean


def embedding_matrix(embeddings: nn.Module) -> Tensor:
    """The [V, d] word embeddings that a lookup gives: gathered, offloaded or adapted ones too."""
    weight: Any = embeddings.weight
    if hasattr(weight, "full_tensor"):
        return weight.full_tensor()
    if type(embeddings) is nn.Embedding and weight.device.type != "meta":
        return weight
    # An adapter or offloading: only the module itself knows its rows.
    home = "cpu" if weight.device.type == "meta" else weight.device
    return embeddings(torch.arange(weight.shape[0], device=home))
