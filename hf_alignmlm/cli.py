"""`alignmlm COMMAND`: one table of commands; the code of each is imported when it is called."""

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from hf_alignmlm import __version__

# Name: module, function, its arguments after the command line, and the line of --help.
COMMANDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "pretrain": ("pretraining", "main", (), "pre-train a masked LM on two languages or more"),
    "tag": ("tasks.finetuning", "main", ("tag",), "fine-tune for POS, NER …; test the transfer"),
    "nli": ("tasks.finetuning", "main", ("nli",), "fine-tune for inference; test the transfer"),
    "corpus": ("hub.build", "main", (), "build a dataset of a corpus or task and its twin"),
    "parse": ("data.trees", "main", (), "give raw text dependency trees"),
    "retrieval": ("retrieval", "main", (), "find the translations of sentences, by each layer"),
    "report": ("report", "main", (), "gather many runs into tables and figures"),
    "doctor": ("doctor", "main", (), "say why alignment or transfer is low"),
    "card": ("hub.cards", "card_main", (), "write the card of a run or a dataset"),
    "push": ("hub.push", "push_main", (), "upload a run or a dataset to the Hub"),
}
USAGE = "\n".join(
    [
        "usage: alignmlm COMMAND [options]\n",
        *(f"  {name:<10}{command[-1]}" for name, command in COMMANDS.items()),
        "\n`alignmlm COMMAND --help` lists the options of a command.",
    ]
)
TRAINING = ("pretrain", "tag", "nli")
# A package that adds an objective, a loss, an order or a task names its module in this group.
PLUGINS = "hf_alignmlm"


SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _in_worker() -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_DFL)  # the command itself has the word
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _stop(number: int, _: object) -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_DFL)  # a second one ends it at once
    raise KeyboardInterrupt(number)


# A worker that is stopped while it is forked would run the handler of its parent, and the pool that
# waits for its end would wait for ever. So the signal waits until the worker has no handler.
os.register_at_fork(
    before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS),
    after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS),
    after_in_child=_in_worker,
)


@contextmanager
def stopped_in_one_line(command: str, argv: Sequence[str]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a command with one line that says how to go on."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        # Of several processes the first speaks.
        handler: Any = _stop if os.environ.get("RANK", "0") == "0" else signal.SIG_DFL
        before = {one: signal.signal(one, handler) for one in SIGNALS}
    try:
        yield
    except KeyboardInterrupt as stopped:
        traceback.clear_frames(stopped.__traceback__)  # progress bars have their last word before
        gc.collect()
        number = stopped.args[0] if stopped.args else signal.SIGINT
        begun = command in TRAINING and "--overwrite_output_dir" in argv
        without = ", without --overwrite_output_dir" if begun else ""
        how = f"the same command{without} goes on from here"
        print(f"\n{sys.argv[0]}: stopped; {how}", file=sys.stderr)
        raise SystemExit(128 + number) from None
    finally:
        for one, old in before.items():
            signal.signal(one, old)


def _without_model_bars() -> None:
    """Leave out the library's bars for reading and writing a model, which come at each checkpoint.

    Those of training, and of downloads, stay.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    downloads_are_quiet = are_progress_bars_disabled()
    logging.disable_progress_bar()
    if not downloads_are_quiet:
        enable_progress_bars()


def run(command: str, argv: Sequence[str] | None = None) -> None:
    """Call a command with its command line (`sys.argv`'s by default), and push if it asks for it.

    A command that trains gives the training arguments of a run whose `--push_to_hub` is on; the
    push comes last, for it needs a card, and training knows nothing of cards.
    """
    with stopped_in_one_line(command, sys.argv if argv is None else argv):
        for plugin in entry_points(group=PLUGINS):
            plugin.load()
        _without_model_bars()
        module, function, more, _ = COMMANDS[command]
        arguments = getattr(import_module(f"hf_alignmlm.{module}"), function)(argv, *more)
        if arguments is not None:
            from hf_alignmlm.arguments import one_line_errors
            from hf_alignmlm.hub.push import push_run

            with one_line_errors():
                push_run(arguments)


def main(argv: Sequence[str] | None = None) -> None:
    """The console command `alignmlm`, also `python -m hf_alignmlm`."""
    command, *words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE)
    elif command == "--version":
        print(__version__)
    elif command in COMMANDS:
        # Errors and --help name the command as it was typed.
        sys.argv[0] = f"alignmlm {command}"
        run(command, words)
    else:
        known = ", ".join(COMMANDS)
        print(f"alignmlm: error: unknown command {command!r}: known are {known}", file=sys.stderr)
        raise SystemExit(2)
