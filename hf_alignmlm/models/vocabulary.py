"""A model for more tokens than it was trained with."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from hf_alignmlm.data.extension import Mixture


@torch.no_grad()
def extend_embeddings(model: PreTrainedModel, mixtures: Sequence[Mixture], size: int) -> None:
    """Give a masked LM of `size` tokens one more for each mixture: that mean of its old rows.

    It is that of the input embeddings and, in the head, of output embeddings, where these are not
    the same, and biases. An empty mixture gives the mean of all old rows.
    """
    model.resize_token_embeddings(size + len(mixtures), mean_resizing=False)
    head = model.get_output_embeddings()
    # Tied matrices are one parameter, and come once.
    for rows in {*model.get_input_embeddings().parameters(), *head.parameters()}:
        mean = rows[:size].mean(0)
        for number, mixture in enumerate(mixtures, size):
            weights = rows.new_tensor(list(mixture.values()))
            chosen = rows[list(mixture)] if mixture else mean
            rows[number] = torch.tensordot(weights, chosen, 1) if mixture else mean
    # Heads of BERT and RoBERTa hold a second bias, for its name in checkpoints. Where matrices are
    # not tied, the library resizes it wrongly, and what it saves does not load.
    for module in () if model.config.tie_word_embeddings else model.modules():
        if head in module.children() and "bias" in dict(module.named_parameters(recurse=False)):
            module.bias = torch.nn.Parameter(head.bias.clone())
