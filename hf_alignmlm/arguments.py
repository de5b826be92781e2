"""Options and one-line errors, which every command shares."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, NoReturn

from transformers import HfArgumentParser


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field that is a command-line option."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The library's usage has a hundred lines before the one that matters.
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def parse(
    dataclasses: Sequence[Any], argv: Sequence[str] | None, **defaults: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parse a command line into dataclasses; also give it as a plain dictionary.

    `defaults` take the place of the dataclasses' own; an explicit option wins over both. In --help
    each dataclass is a group, in the order given, under the first line of its docstring.
    """
    for one in dataclasses:
        one._argument_group_name = (one.__doc__ or one.__name__).splitlines()[0].rstrip(".")
    parser = _Parser(list(dataclasses), allow_abbrev=False, usage="%(prog)s [options]")
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


def option_names(argv: Sequence[str] | None) -> list[str]:
    """The names of the options that a command line gives, as their dataclass fields have them."""
    words = sys.argv[1:] if argv is None else argv
    names = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
    return [name.replace("-", "_") for name in names]


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake ends a command with one line and exit code 2, not with a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
        raise SystemExit(2) from None


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("hf-alignmlm", "torch", "transformers", "datasets", "tokenizers", "accelerate")
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}
