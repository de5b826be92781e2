"""The folder that a run owns: claimed, resumed, sealed."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import logging

from hf_alignmlm.files import read_json, sha256, write_json

logger = logging.get_logger(__name__)

ARGUMENTS_FILE = "run_arguments.json"
RESULTS_FILE = "all_results.json"
MANIFEST_FILE = "manifest.json"
# What a run writes; the dictionary of an old run must not stay behind.
RUN_FILES = (
    *(ARGUMENTS_FILE, RESULTS_FILE, "tokenizer.json", "tokenizer_config.json", "language.json"),
    *("dictionary.json", "config.json", "model.safetensors", "trainer_state.json"),
    "training_args.bin",
)
RUN_ENTRIES = re.compile(
    "|".join(map(re.escape, RUN_FILES))
    + r"|checkpoint-\d+|(scores|checkpoints)-[A-Za-z]\w*-\d+(\.json)?"
)
# What may change between a run and its resumption.
FREE_ARGUMENTS = {
    *("output_dir", "overwrite_output_dir", "preprocessing_num_workers", "disable_tqdm"),
    *("dataloader_num_workers", "push_to_hub", "hub_model_id", "hub_token", "hub_private_repo"),
    *("logging_steps", "log_level", "report_to", "logging_nan_inf_filter"),
    "ddp_find_unused_parameters",
}


def check_output_dir(
    output_dir: str | Path,
    arguments: dict[str, Any],
    *,
    overwrite: bool = False,
    keep: str | Path | None = None,
) -> bool:
    """Whether this run lies in the folder, finished; `ValueError` for another run or other files.

    `keep` is the checkpoint that the run starts from, which `overwrite` must not reach. Writes
    nothing: a run that fails a later check must leave the folder as it was.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder as --output_dir")
    if overwrite:
        _check_overwriting(folder, keep)
    if overwrite or not folder.exists():
        return False
    if (folder / ARGUMENTS_FILE).exists():
        before = read_json(folder / ARGUMENTS_FILE)
        names = (arguments.keys() | before.keys()) - FREE_ARGUMENTS
        if changed := sorted(n for n in names if arguments.get(n) != before.get(n)):
            raise ValueError(
                f"{folder} holds another run (it differs in {', '.join(changed)}): name another "
                "--output_dir, or give --overwrite_output_dir"
            )
    elif any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and holds no run of these scripts: name another --output_dir, "
            "or give --overwrite_output_dir"
        )
    return (folder / RESULTS_FILE).exists()


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder under a name that a run gives."""
    entries = folder.iterdir() if folder.exists() else ()
    return sorted(path for path in entries if RUN_ENTRIES.fullmatch(path.name))


def _check_overwriting(folder: Path, keep: str | Path | None) -> None:
    if keep is not None and Path(keep).exists():
        here, kept = folder.resolve(), Path(keep).resolve()
        if here == kept or here in kept.parents or kept in here.parents:
            raise ValueError(
                f"--overwrite_output_dir could remove {keep}, which this run starts from: name an "
                "--output_dir beside it"
            )
    recorded = (folder / ARGUMENTS_FILE).exists()
    for path in _entries(folder):
        foreign = path.name.startswith("checkpoint-") and path.is_dir() and not _begun(path)
        if not recorded or foreign:
            raise ValueError(
                f"{path} is of no run of these scripts, and is not overwritten: move it away, or "
                "name another --output_dir"
            )


def claim_output_dir(
    output_dir: str | Path, arguments: dict[str, Any], *, overwrite: bool = False
) -> None:
    """Make a folder this run's own; `overwrite` clears it of what an old run wrote.

    Call it within `files.exclusive`: the folder is checked again, for another command may have
    written there since.
    """
    folder = Path(output_dir)
    check_output_dir(folder, arguments, overwrite=overwrite)
    for old in _entries(folder) if overwrite else ():
        # The record stays until the new one takes its place: what is left belongs to a run.
        if old.name != ARGUMENTS_FILE:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for half in (half for name in RUN_FILES for half in folder.glob(f".{name}.*")):
        half.unlink()  # of a command that was killed as it wrote
    write_json(folder / ARGUMENTS_FILE, arguments)


def _digests(checkpoint: Path) -> dict[str, str]:
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file())
    own = (path for path in files if path.name != MANIFEST_FILE)
    return {path.relative_to(checkpoint).as_posix(): sha256(path) for path in own}


def _begun(checkpoint: Path) -> bool:
    """Whether a run made this folder: it has a manifest, or nothing but the start of one."""
    hidden = (path.name.startswith(".") for path in checkpoint.iterdir())
    return (checkpoint / MANIFEST_FILE).exists() or all(hidden)


def begin_checkpoint(checkpoint: str | Path) -> None:
    """Make a checkpoint's folder anew, marked as a run's; it is not whole until it is sealed."""
    checkpoint = Path(checkpoint)
    if checkpoint.exists() and _begun(checkpoint):
        shutil.rmtree(checkpoint)
    write_json(checkpoint / MANIFEST_FILE, {})


def seal_checkpoint(checkpoint: str | Path) -> None:
    """Write a manifest of a checkpoint's files, last: only a sealed checkpoint counts as whole."""
    write_json(Path(checkpoint) / MANIFEST_FILE, _digests(Path(checkpoint)))


def last_whole_checkpoint(output_dir: str | Path) -> str | None:
    """The newest checkpoint whose files are all as they were written; damaged ones are named."""
    found = [p for p in Path(output_dir).glob("checkpoint-*") if p.name[11:].isdigit()]
    for checkpoint in sorted(found, key=lambda path: int(path.name[11:]), reverse=True):
        try:
            manifest = read_json(checkpoint / MANIFEST_FILE)
            if manifest and manifest == _digests(checkpoint):
                return str(checkpoint)
        except (OSError, ValueError):
            pass
        logger.warning("%s is damaged or incomplete: going back to the one before", checkpoint)
    return None


@contextmanager
def without_token(args: Any) -> Iterator[None]:
    """Keep the Hub's token out of the file of arguments that the library writes beside a model."""
    token, args.hub_token = args.hub_token, None
    try:
        yield
    finally:
        args.hub_token = token
