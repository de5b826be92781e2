"""ALIGN-MLM as a Hugging Face extension: multilingual encoders whose words align."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AlignMLMTrainer": "trainer",
    "AlignMLMTrainingArguments": "trainer",
    "AlignedBertConfig": "configuration",
    "AlignedMaskedLMOutput": "modeling",
    "AlignmentMetric": "alignment",
    "BertForAlignedMaskedLM": "modeling",
    "BilingualDictionary": "dictionary",
    "Objective": "objectives",
    "ObjectiveCollator": "objectives",
    "SyntheticLanguage": "languages",
    "WordOrderModel": "syntax",
    "alignment_scores": "alignment",
    "double_tokenizer": "tokenization",
    "train_tokenizer": "tokenization",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # Only what is asked for is imported: `python -m hf_alignmlm.syntax` needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
