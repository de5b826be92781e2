"""Rows of added tokens: input and output embeddings and biases, tied and untied."""

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    RobertaConfig,
)

from hf_alignmlm.models.vocabulary import extend_embeddings

TINY = {
    "vocab_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
}
DISTIL = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}
CONFIGS = {
    "bert": lambda **more: BertConfig(**TINY, **more),
    "roberta": lambda **more: RobertaConfig(**TINY, **more),
    "modernbert": lambda **more: ModernBertConfig(**TINY, reference_compile=False, **more),
    "distilbert": lambda **more: DistilBertConfig(**(TINY | DISTIL), **more),
}
MIXTURES = [{3: 0.25, 5: 0.75}, {}, {4: 1.0}]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_new_rows_are_the_means_of_old_ones(kind, tied, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(CONFIGS[kind](tie_word_embeddings=tied))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    old = [model.get_input_embeddings().weight, *model.get_output_embeddings().parameters()]
    old = [weight.detach().clone() for weight in old]
    extend_embeddings(model, MIXTURES, 12)
    head = model.get_output_embeddings()
    new = [model.get_input_embeddings().weight, *head.parameters()]
    assert len(old) == len(new) == 3  # a bias, too
    for before, after in zip(old, new, strict=True):
        assert torch.equal(after[:12], before)
        expected = [0.25 * before[3] + 0.75 * before[5], before.mean(0), before[4]]
        torch.testing.assert_close(after[12:], torch.stack(expected))
    assert (new[0] is new[1]) == tied
    # What is saved is what is computed with, and its logits are those of the old tokens before.
    ids = torch.tensor([[3, 5, 13]])
    logits = model.eval()(input_ids=ids).logits
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(input_ids=ids).logits, logits)
    hidden = logits[..., 14] - logits[..., 4]
    torch.testing.assert_close(hidden, torch.zeros_like(hidden), atol=1e-4, rtol=1e-4)
