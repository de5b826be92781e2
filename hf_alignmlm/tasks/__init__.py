"""Tasks: a file each. What is put into this folder is registered by itself."""

from importlib import import_module
from pkgutil import iter_modules

from hf_alignmlm.tasks.base import TASKS, Encoded, Row, Task, TaskData, read_task, register_task

# First the paper's, in the order of its tables. Fine-tuning is no task and loads much: on use only.
_OTHERS = sorted({module.name for module in iter_modules(__path__)} - {"finetuning"})
for _name in ("pos", "ner", "nli", *_OTHERS):
    import_module(f"{__name__}.{_name}")

__all__ = ["TASKS", "Encoded", "Row", "Task", "TaskData", "read_task", "register_task"]
