"""Tasks, fine-tuned on one language and tested on the other."""

from hf_alignmlm.tasks.base import TASKS

__all__ = ["TASKS"]
