"""A small configuration of each architecture, without dropout."""

import transformers

from hf_alignmlm.models.backbones import BACKBONES

VOCABULARY, LENGTH = 60, 12
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": LENGTH,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
# Two special tokens before the first position of a token.
ROBERTA = {"max_position_embeddings": LENGTH + 2, "pad_token_id": 1, "type_vocab_size": 1}
DISTANCES = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
CHANGES = {
    "bert": {},
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": {
        "dim": 24,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 32,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "electra": {"embedding_size": 16},
    # A window of two places to each side, in every other layer.
    "modernbert": {
        "pad_token_id": 0,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
        "local_attention": 4,
        "global_attn_every_n_layers": 2,
        "num_hidden_layers": 4,
    },
    "deberta": DISTANCES,
    "deberta-v2": DISTANCES | {"position_buckets": 4, "position_biased_input": False},
}
assert CHANGES.keys() == BACKBONES.keys(), "an architecture has no small configuration"


def config(name, **options):
    """A configuration of the library's, of the architecture of that model type."""
    mapping = transformers.CONFIG_MAPPING
    own = {"distilbert": {k: SHAPE[k] for k in ("vocab_size", "max_position_embeddings")}}
    return mapping[name](**(own.get(name, SHAPE) | CHANGES[name] | options))
