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
        language_embeddings: whether token types tell the languages apart (0 original, 1 derived),
            which whoever fine-tunes or applies the model must then do as well.
        objective: the pre-training objective, for the record.
    """

    keys_to_ignore_at_inference: ClassVar[list[str]] = ["mlm_loss", "alignment_loss"]

    alignment_loss_weight: float | int = 10.0
    alignment_loss_type: str = "cosine"
    language_embeddings: bool = False
    objective: str | None = None
