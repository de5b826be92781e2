"""Pre-training objectives."""

from hf_alignmlm.objectives.base import OBJECTIVES

__all__ = ["OBJECTIVES"]
