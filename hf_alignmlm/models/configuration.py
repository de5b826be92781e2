"""BERT's configuration with what ALIGN-MLM adds; it still says `bert`, so stock classes load it."""

import sys
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

# Model types whose first token's position is the one after the padding's: of 514 they use 512.
OFFSET_POSITIONS = {
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod"),
    *("data2vec-text", "mpnet", "longformer", "ibert"),
}


@strict
class AlignedBertConfig(BertConfig):
    """Configuration of `BertForAlignedMaskedLM`.

    Parameters:
        alignment_loss_weight: α, the weight of the alignment loss (the paper's is 10); 0 for none.
        alignment_loss_type: a name of `alignment_loss.ALIGNMENT_LOSSES`; `cosine` is the paper's.
        alignment_pairs_per_step: the pairs that a step takes of a larger dictionary; None for all
            where each word is one piece, else for `alignment_loss.PAIRS_PER_STEP`.
        alignment_word_weights: `uniform`, each original word weighs the same in the alignment loss,
            or `frequency`, as often as it occurs in the text.
        language_embeddings: whether token types tell the languages apart (0 original, 1 derived),
            which whoever fine-tunes or applies the model must then do as well.
        objective: the pre-training objective, for the record.
    """

    keys_to_ignore_at_inference: ClassVar[list[str]] = ["mlm_loss", "alignment_loss"]

    alignment_loss_weight: float | int = 10.0
    alignment_loss_type: str = "cosine"
    alignment_pairs_per_step: int | None = None
    alignment_word_weights: str = "uniform"
    language_embeddings: bool = False
    objective: str | None = None


def positions(config: Any) -> int:
    """How many tokens a model of this configuration has positions for; T5's kind has no end."""
    offset = (config.pad_token_id or 0) + 1 if config.model_type in OFFSET_POSITIONS else 0
    return getattr(config, "max_position_embeddings", sys.maxsize) - offset


def token_types(config: Any) -> int:
    """How many token types a model of this configuration knows; 0 where it has no such table."""
    return getattr(config, "type_vocab_size", 0)
