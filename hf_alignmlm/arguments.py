"""Options and one-line errors, which every command shares."""

import argparse
import contextlib
import copy
import importlib.metadata
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, NoReturn

import datasets
from transformers import HfArgumentParser


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field that is a command-line option."""
    metadata["help"] = help
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


ABOVE_0, LARGEST = math.nextafter(0, 1), sys.float_info.max
# The least and the largest value of options, ours and the library's. A default may lie outside:
# max_steps -1 is "not given".
RANGES = {
    name: (least, most)
    for least, most, names in (
        (1, LARGEST, "max_steps per_device_train_batch_size per_device_eval_batch_size"),
        (1, LARGEST, "gradient_accumulation_steps eval_accumulation_steps save_total_limit"),
        (1, LARGEST, "dataloader_prefetch_factor torch_empty_cache_steps ddp_timeout"),
        (1, LARGEST, "max_train_samples max_eval_samples preprocessing_num_workers"),
        (1, LARGEST, "vocab_size extend_vocab shuffle_buffer max_samples"),
        (3, LARGEST, "max_seq_length"),
        (1, 99, "validation_split_percentage"),
        (ABOVE_0, LARGEST, "learning_rate num_train_epochs adam_epsilon"),
        (ABOVE_0, LARGEST, "logging_steps save_steps eval_steps"),
        (0, LARGEST, "weight_decay warmup_steps max_grad_norm eval_delay neftune_noise_alpha"),
        (0, LARGEST, "dataloader_num_workers alignment_loss_weight"),
        (0, 2**32 - 1, "seed seeds data_seed language_seed dictionary_seed"),
        (0, 1, "adam_beta1 adam_beta2 label_smoothing_factor dictionary_fraction sampling_alpha"),
    )
    for name in names.split()
}
# A language (en), or a pair of languages (en-fr), before a file or a configuration.
NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_]*(?:-[A-Za-z][A-Za-z0-9_]*)?)=(.+)", re.DOTALL)
# Options of the library that nothing here follows, and why.
ONE_PUSH = "a run is pushed once, at its end"
UNUSED = {
    "resume_from_checkpoint": "the same command goes on from its last whole checkpoint by itself",
    **{"hub_strategy": ONE_PUSH, "hub_always_push": ONE_PUSH, "hub_revision": ONE_PUSH},
}


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The library's usage has a hundred lines before the one that matters.
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def _check_value(option: Field, value: Any) -> None:
    """Raise ValueError for an option or a value that cannot be meant."""
    if value == option.default:
        return
    if option.name in UNUSED:
        raise ValueError(f"--{option.name} does nothing here: {UNUSED[option.name]}")
    if value == "":
        raise ValueError(f"--{option.name} is empty: name something, or leave it out")
    least, most = RANGES.get(option.name, (0, 0))
    if least != most and isinstance(value, int | float) and not least <= value <= most:
        above = "more than 0" if least == ABOVE_0 else f"at least {least}"
        limit = f"be {above}" if most == LARGEST else f"lie between {least} and {most}"
        raise ValueError(f"{option.name} must {limit}, not {value}")


def _try_out(args: Any) -> None:
    """Have the library set up a training of one weight: a missing package shows before any work."""
    import torch
    from transformers import Trainer

    tried = copy.copy(args)
    tried.eval_strategy, tried.push_to_hub = "no", False
    tried.label_smoothing_factor = 0  # for which the library reads the configuration of a model
    with tempfile.TemporaryDirectory() as folder:
        tried.output_dir = folder
        trainer = Trainer(torch.nn.Linear(1, 1), tried, train_dataset=[{"input_ids": [0]}])
        trainer.get_train_dataloader()
        trainer.create_optimizer_and_scheduler(1)


def parse(
    dataclasses: Sequence[Any], argv: Sequence[str] | None, **defaults: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parse a command line into dataclasses; also give it as a plain dictionary, without tokens.

    `defaults` take the place of the dataclasses' own; an explicit option wins over both. In --help
    each dataclass is a group, in the order given, under the first line of its docstring.
    `ValueError` for a value that cannot be meant, and for options that the library cannot follow.
    """
    for one in dataclasses:
        one._argument_group_name = (one.__doc__ or one.__name__).splitlines()[0].rstrip(".")
    parser = _Parser(list(dataclasses), allow_abbrev=False, usage="%(prog)s [options]")
    parser.set_defaults(**defaults)
    values = vars(parser.parse_args(argv))
    for option in (option for one in dataclasses for option in fields(one)):
        value = values.get(option.name)
        for part in value if isinstance(value, list) else [value]:
            _check_value(option, part)
    given = {name: value for name, value in values.items() if not name.endswith("token")}
    try:
        parsed = parser.parse_dict(values, allow_extra_keys=True)
        for args in parsed:
            if hasattr(args, "optim"):
                _try_out(args)
                if args.disable_tqdm:
                    datasets.disable_progress_bars()  # the option means all bars
    except Exception as error:
        names = [name for name in option_names(argv) if name in values]
        if isinstance(error, ValueError) and any(name in str(error) for name in names):
            raise
        options = ", ".join(f"--{name}" for name in names)
        raise ValueError(f"the library cannot follow {options}: {error}") from None
    return parsed, given


def peek(argv: Sequence[str] | None, **options: str) -> dict[str, str]:
    """The values of a few options before all others are parsed, for these depend on them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in options.items():
        parser.add_argument(f"--{name}", default=default)
    return vars(parser.parse_known_args(argv)[0])


def option_names(argv: Sequence[str] | None) -> list[str]:
    """The names of the options that a command line gives, as their dataclass fields have them."""
    words = sys.argv[1:] if argv is None else argv
    names = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
    return [name.replace("-", "_") for name in names]


def split_name(value: str) -> tuple[str, str]:
    """The name before a value, as of `fr=a.txt`, and the value; "" where it has none.

    A file that is itself called `fr=a.txt` is that file.
    """
    match = None if os.path.exists(value) else NAMED.fullmatch(value)
    return (match[1], match[2]) if match else ("", value)


def by_language(
    option: str, values: Sequence[str], *, required: bool = False
) -> dict[str, list[str]]:
    """The values of an option by the name before each (`split_name`).

    ValueError if some have a name and some have not, or where one is `required`.
    """
    named: dict[str, list[str]] = {}
    for name, value in map(split_name, values):
        named.setdefault(name, []).append(value)
    if "" in named and (required or len(named) > 1):
        raise ValueError(
            f"--{option}: {named[''][0]} names no language, but is to: give all as NAME=FILE"
        )
    return named


def by_pair(option: str, values: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """The values of an option by pair of these languages; without a name, of the only pair.

    ValueError for a pair of others, and for a pair in both orders.
    """
    pairs = by_language(option, values)
    if "" in pairs and len(names) == 2:
        return {"-".join(names): pairs[""]}
    if pairs and len(names) < 2:
        raise ValueError(
            f"--{option} is of two languages, but only {names[0]} has text: give --train_file "
            f"{names[0]}=FILE and NAME=FILE of the other"
        )
    for pair, (value, *_) in pairs.items():
        if len({*pair.split("-")} & {*names}) != 2:
            raise ValueError(
                f"--{option}: {pair or value} is no pair of {', '.join(names)}: name one of two "
                "of these, as en-fr=FILE"
            )
        if (back := "-".join(reversed(pair.split("-")))) in pairs:
            raise ValueError(f"--{option} has {pair} and {back}, one pair: name it one way")
    return pairs


def only(option: str, values: Sequence[str]) -> str | None:
    """The only value; None without one, ValueError for more."""
    if len(values) > 1:
        raise ValueError(f"--{option} has {len(values)} values of one language or pair: give one")
    return next(iter(values), None)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake ends a command with one line and exit code 2, not with a traceback."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
        raise SystemExit(2) from None


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("hf-alignmlm", "torch", "transformers", "datasets", "tokenizers", "accelerate")
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}
