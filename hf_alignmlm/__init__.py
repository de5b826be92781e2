"""ALIGN-MLM as a Hugging Face extension: multilingual encoders whose words align."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AlignMLMTrainer": "trainer",
    "AlignMLMTrainingArguments": "trainer",
    "AlignedBertConfig": "models.configuration",
    "AlignedMaskedLMOutput": "models.modeling",
    "AlignmentLoss": "models.alignment_loss",
    "AlignmentMetric": "alignment",
    "BertForAlignedMaskedLM": "models.modeling",
    "BilingualDictionary": "data.dictionary",
    "EpochDataset": "data.packing",
    "OBJECTIVES": "objectives",
    "Objective": "objectives",
    "ObjectiveCollator": "objectives",
    "TASKS": "tasks",
    "Task": "tasks",
    "SyntheticLanguage": "languages.synthetic",
    "WordOrderModel": "languages.word_order",
    "alignment_scores": "alignment",
    "double_tokenizer": "data.tokenizer",
    "embedded_corpus": "data.sources",
    "pack": "data.packing",
    "register_alignment_loss": "models.alignment_loss",
    "register_objective": "objectives",
    "order": "languages.orders",
    "register_task": "tasks",
    "texts": "data.sources",
    "tokenize_corpus": "data.encoding",
    "train_tokenizer": "data.tokenizer",
    "vocabulary_pairs": "data.tokenizer",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # Only what is asked for is imported: `alignmlm --help` needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
