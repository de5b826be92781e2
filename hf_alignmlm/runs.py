"""The folder that a run owns: claimed, resumed, sealed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from transformers.utils import logging

from hf_alignmlm.files import read_json, write_json

logger = logging.get_logger(__name__)

ARGUMENTS_FILE = "run_arguments.json"
RESULTS_FILE = "all_results.json"
MANIFEST_FILE = "manifest.json"
# What a run writes beside its checkpoints; the dictionary of an old run must not stay behind.
RUN_FILES = (
    *(ARGUMENTS_FILE, RESULTS_FILE, "tokenizer.json", "tokenizer_config.json", "language.json"),
    *("dictionary.json", "config.json", "model.safetensors", "trainer_state.json"),
)
# What may change between a run and its resumption.
FREE_ARGUMENTS = frozenset(
    {
        *("output_dir", "overwrite_output_dir", "preprocessing_num_workers", "disable_tqdm"),
        *("dataloader_num_workers", "push_to_hub", "hub_model_id", "hub_token", "hub_private_repo"),
        *("logging_steps", "log_level", "report_to", "logging_nan_inf_filter"),
        "ddp_find_unused_parameters",
    }
)


def check_output_dir(
    output_dir: str | Path, arguments: dict[str, Any], *, overwrite: bool = False
) -> bool:
    """Whether this run lies in the folder, finished; `ValueError` for another run or other files.

    Writes nothing: a run that fails a later check must leave the folder as it was.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder as --output_dir")
    if overwrite or not folder.exists():
        return False
    path = folder / ARGUMENTS_FILE
    if path.exists():
        before = read_json(path)
        changed = sorted(
            name
            for name in arguments.keys() | before.keys()
            if name not in FREE_ARGUMENTS and arguments.get(name) != before.get(name)
        )
        if changed:
            raise ValueError(
                f"{folder} holds another run (it differs in {', '.join(changed)}): name another "
                "--output_dir, or give --overwrite_output_dir"
            )
    elif any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and holds no run of these scripts: name another --output_dir, "
            "or give --overwrite_output_dir"
        )
    return (folder / RESULTS_FILE).exists()


def claim_output_dir(
    output_dir: str | Path, arguments: dict[str, Any], *, overwrite: bool = False
) -> None:
    """Make a checked folder this run's own; `overwrite` clears it of what an old run wrote."""
    folder = Path(output_dir)
    if overwrite:
        files = (folder / name for name in RUN_FILES)
        for old in [*folder.glob("checkpoint-*"), *folder.glob("scores-*.json"), *files]:
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    write_json(folder / ARGUMENTS_FILE, arguments)


def _digests(checkpoint: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(p for p in checkpoint.rglob("*") if p.is_file()):
        if path.name != MANIFEST_FILE:
            with open(path, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            digests[path.relative_to(checkpoint).as_posix()] = digest
    return digests


def seal_checkpoint(checkpoint: str | Path) -> None:
    """Write a manifest of a checkpoint's files, last: only a sealed checkpoint counts as whole."""
    write_json(Path(checkpoint) / MANIFEST_FILE, _digests(Path(checkpoint)))


def last_whole_checkpoint(output_dir: str | Path) -> str | None:
    """The newest checkpoint whose files are all as they were written; damaged ones are named."""
    found = [p for p in Path(output_dir).glob("checkpoint-*") if p.name[11:].isdigit()]
    for checkpoint in sorted(found, key=lambda path: int(path.name[11:]), reverse=True):
        try:
            if read_json(checkpoint / MANIFEST_FILE) == _digests(checkpoint):
                return str(checkpoint)
        except (OSError, ValueError):
            pass
        logger.warning("%s is damaged or incomplete: going back to the one before", checkpoint)
    return None
