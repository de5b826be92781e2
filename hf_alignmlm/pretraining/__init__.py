"""Pre-training: options.py says what is asked for, verbs.py does it."""

from hf_alignmlm.pretraining.verbs import main

__all__ = ["main"]
