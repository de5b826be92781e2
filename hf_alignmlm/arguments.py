"""What the scripts share: options, one-line errors, and the folder that a run owns."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from transformers import HfArgumentParser
from transformers.utils import logging

from hf_alignmlm.files import read_json, write_json
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.sizes import SIZES

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


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field that is a command-line option."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class ModelArguments:
    """Which model and tokenizer to train."""

    model_name_or_path: str | None = option(None, "Checkpoint to go on from; none to start afresh.")
    size: str = option("mini", f"Model and training defaults: {', '.join(SIZES)}.")
    config_name: str | None = option(None, "Configuration to start afresh from, instead of a size.")
    config_overrides: str | None = option(
        None, "Changes to the configuration, as hidden_size=256,num_hidden_layers=6."
    )
    tokenizer_name: str | None = option(
        None, "WordPiece tokenizer to take, doubled here; none to train one on the corpus."
    )
    vocab_size: int | None = option(
        None, "Tokens of the trained tokenizer, before doubling; default: the size's."
    )
    lowercase: bool = option(False, "Train an uncased tokenizer.")
    alignment_loss_weight: float | None = option(
        None, "Weight of the alignment loss, with any objective; default: 10 for align-mlm, else 0."
    )


@dataclass
class DataArguments:
    """Which text, which language, which dictionary. With no source, the embedded corpus."""

    language: str = option("trans_inv", "The derived language, as trans, trans_inv, trans50_perm.")
    language_seed: int = option(0, "Seed of the language's permutations and shared words.")
    train_file: list[str] = option(
        [], "Text, JSON lines, parquet or CoNLL-U files, gzip or not.", nargs="+"
    )
    validation_file: list[str] = option([], "The same, to validate on.", nargs="+")
    derived_train_file: list[str] = option(
        [], "Text of a natural language, in place of the synthetic one.", nargs="+"
    )
    derived_validation_file: list[str] = option([], "The same, to validate on.", nargs="+")
    dataset_name: str | None = option(None, "Corpus on the Hub, or a folder of parquet files.")
    dataset_config_name: str | None = option(None, "Its configuration.")
    streaming: bool = option(False, "Read the corpus as it trains, without preparing it first.")
    shuffle_buffer: int = option(10_000, "Sequences to shuffle among when streaming.")
    validation_split_percentage: int = option(
        5, "Percent of the training corpus to validate on where there is no validation set."
    )
    max_train_samples: int | None = option(None, "Use only this many rows (lines, sentences).")
    max_eval_samples: int | None = option(None, "The same, of the validation set.")
    max_seq_length: int | None = option(None, "Tokens of a packed sequence; default: the size's.")
    preprocessing_num_workers: int | None = option(None, "Processes that tokenize.")
    dictionary_file: str | None = option(
        None, "Two-column file of word pairs; default: the vocabulary and its twin."
    )
    dictionary_fraction: float = option(1.0, "Share of the pairs seen in training, 0 to 1.")
    dictionary_seed: int = option(0, "Seed of that draw.")


@dataclass
class ObjectiveArguments:
    """The pre-training objective and its options."""

    objective: str = option("align-mlm", f"One of {', '.join(OBJECTIVES)}.")
    mlm_probability: float = option(0.15, "Share of the tokens to predict.")
    tlm_rate: float = option(1.0, "xlm: share of sentences that also give a pair.")
    swap_probability: float = option(
        0.5, "dict-mlm: share of the chosen positions that are cross-lingual."
    )
    dict_mlm_variant: str = option(
        "input", "dict-mlm: swap the input (as released with ALIGN-MLM) or the label (its paper)."
    )
    language_embeddings: bool | None = option(
        None, "Token types tell the languages apart; default: for xlm."
    )
    isolate_sentences: bool = option(
        False, "A packed sentence does not see its neighbours; default: so with mini and small."
    )


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The library's usage has a hundred lines before the one that matters.
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def parse(
    dataclasses: Sequence[Any], argv: Sequence[str] | None, **defaults: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parse a command line into dataclasses; also give it as a plain dictionary.

    `defaults` take the place of the dataclasses' own; an explicit option wins over both.
    """
    parser = _Parser(list(dataclasses), allow_abbrev=False)
    parser.set_defaults(**defaults)
    namespace: argparse.Namespace = parser.parse_args(argv)
    given = {name: value for name, value in vars(namespace).items() if not name.endswith("token")}
    return parser.parse_dict(vars(namespace), allow_extra_keys=True), given


def peek(argv: Sequence[str] | None, **options: str) -> dict[str, str]:
    """The values of a few options before all others are parsed, for these depend on them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in options.items():
        parser.add_argument(f"--{name}", default=default)
    return vars(parser.parse_known_args(argv)[0])


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake ends a script with one line and exit code 2, not with a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
        raise SystemExit(2) from None


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


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("hf-alignmlm", "torch", "transformers", "datasets", "tokenizers", "accelerate")
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}
