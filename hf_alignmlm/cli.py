"""`alignmlm COMMAND`: one table of commands; the code of each is imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points

from hf_alignmlm import __version__

# Name: module, function, its arguments after the command line, and the line of --help.
COMMANDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "pretrain": ("pretraining", "main", (), "pre-train a masked LM on a language and its twin"),
    "tag": ("tasks.finetuning", "main", ("tag",), "fine-tune for POS, NER …; test the transfer"),
    "nli": ("tasks.finetuning", "main", ("nli",), "fine-tune for inference; test the transfer"),
    "corpus": ("hub.build", "main", (), "build a dataset of a corpus or task and its twin"),
    "parse": ("data.trees", "main", (), "give raw text dependency trees"),
    "report": ("report", "main", (), "gather many runs into tables and figures"),
    "card": ("hub.cards", "card_main", (), "write the card of a run or a dataset"),
    "push": ("hub.push", "push_main", (), "upload a run or a dataset to the Hub"),
}
# A package that adds an objective, a loss, an order or a task names its module in this group.
PLUGINS = "hf_alignmlm"


def run(command: str, argv: Sequence[str] | None = None) -> None:
    """Call a command with its command line (`sys.argv`'s by default), and push if it asks for it.

    A command that trains gives the training arguments of a run whose `--push_to_hub` is on; the
    push comes last, for it needs a card, and training knows nothing of cards.
    """
    for plugin in entry_points(group=PLUGINS):
        plugin.load()
    module, function, more, _ = COMMANDS[command]
    arguments = getattr(import_module(f"hf_alignmlm.{module}"), function)(argv, *more)
    if arguments is not None:
        from hf_alignmlm.arguments import one_line_errors
        from hf_alignmlm.hub.push import push_run

        with one_line_errors():
            push_run(arguments)


def main(argv: Sequence[str] | None = None) -> None:
    """The console command `alignmlm`, also `python -m hf_alignmlm`."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: alignmlm COMMAND [options]\n\n" + _listed())
    elif argv[0] == "--version":
        print(__version__)
    elif argv[0] in COMMANDS:
        # Errors and --help name the command as it was typed.
        sys.argv[0] = f"alignmlm {argv[0]}"
        run(argv[0], argv[1:])
    else:
        known = ", ".join(COMMANDS)
        print(f"alignmlm: error: unknown command {argv[0]!r}: known are {known}", file=sys.stderr)
        raise SystemExit(2)


def _listed() -> str:
    lines = [f"  {name:<10}{command[-1]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "`alignmlm COMMAND --help` lists the options of a command."])
