"""Pre-training objectives: a file each. What is put into this folder is registered by itself."""

from importlib import import_module
from pkgutil import iter_modules

from hf_alignmlm.objectives.base import OBJECTIVES, Draws, Objective, register_objective
from hf_alignmlm.objectives.collator import ObjectiveCollator

__all__ = ["OBJECTIVES", "Draws", "Objective", "ObjectiveCollator", "register_objective"]

# First the paper's, in the order of its tables, which ours and the legends follow.
_FILES = ("mlm", "xlm", "dict_mlm", "align_mlm", *sorted(m.name for m in iter_modules(__path__)))
for _name in _FILES:
    import_module(f"{__name__}.{_name}")
