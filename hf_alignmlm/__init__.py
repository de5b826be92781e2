"""ALIGN-MLM as a Hugging Face extension: multilingual encoders whose words align."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "alignment": ("AlignmentMetric", "alignment_scores"),
    "data.dictionary": ("BilingualDictionary",),
    "data.encoding": ("tokenize_corpus",),
    "data.packing": ("EpochDataset", "pack"),
    "data.parallel": ("read_parallel", "tokenize_pairs"),
    "data.sources": ("embedded_corpus", "texts"),
    "data.tokenizer": ("double_tokenizer", "train_tokenizer", "vocabulary_pairs"),
    "languages.orders": ("order",),
    "languages.synthetic": ("SyntheticLanguage",),
    "languages.word_order": ("WordOrderModel",),
    "models.alignment_loss": ("AlignmentLoss", "register_alignment_loss"),
    "models.backbones": (
        "AutoModelForAlignedMaskedLM",
        "BertForAlignedMaskedLM",
        "register_backbone",
    ),
    "models.configuration": ("AlignedBertConfig",),
    "models.modeling": ("AlignedMaskedLM", "AlignedMaskedLMOutput"),
    "objectives": ("OBJECTIVES", "Objective", "ObjectiveCollator", "register_objective"),
    "objectives.translation": ("TranslationCollator",),
    "retrieval": ("retrieval_scores", "sentence_states"),
    "tasks": ("TASKS", "Task", "register_task"),
    "trainer": ("AlignMLMTrainer", "AlignMLMTrainingArguments"),
}
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # Only what is asked for is imported: `alignmlm --help` needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
