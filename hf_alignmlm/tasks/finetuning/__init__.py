"""Fine-tuning: options.py says what is asked for, verbs.py does it."""

from hf_alignmlm.tasks.finetuning.verbs import main

__all__ = ["main"]
