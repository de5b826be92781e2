"""Pre-training: options.py says what is asked for, inputs.py and verbs.py do it."""

from hf_alignmlm.pretraining.verbs import main

__all__ = ["main"]
