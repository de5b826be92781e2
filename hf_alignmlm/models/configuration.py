"""BERT's configuration with what ALIGN-MLM adds; it still says `bert`, so stock classes load it."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import BertConfig


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
