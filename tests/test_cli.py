"""The command line: stopped by hand, every command says in one line how to go on."""

import os
import signal
import sys
import time
from importlib import import_module

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging

from hf_alignmlm import cli
from hf_alignmlm.files import exclusive

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("command", "words", "more"),
    [
        ("corpus", [], ""),
        ("corpus", ["--overwrite_output_dir"], ""),
        ("pretrain", [], ""),
        ("pretrain", ["--overwrite_output_dir"], ", without --overwrite_output_dir"),
    ],
)
def test_a_stopped_command_says_how_to_go_on(number, command, words, more, monkeypatch, capsys):
    before = [signal.getsignal(one) for one in SIGNALS]
    monkeypatch.setattr(sys, "argv", [f"alignmlm {command}"])
    module = import_module(f"hf_alignmlm.{cli.COMMANDS[command][0]}")
    monkeypatch.setattr(module, "main", lambda argv: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as stop:
        cli.run(command, words)
    assert stop.value.code == 128 + number
    assert capsys.readouterr().err.strip() == (
        f"alignmlm {command}: stopped; the same command{more} goes on from here"
    )
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_worker_that_is_stopped_says_nothing(monkeypatch, capfd):
    reading, writing = os.pipe()

    def work(argv):
        worker = os.fork()
        while worker == 0:
            os.write(writing, b"x")
            time.sleep(0.1)
        os.read(reading, 1)
        os.kill(worker, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGTERM

    monkeypatch.setattr("hf_alignmlm.report.main", work)
    cli.run("report", [])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("command", ["report", "card"])
def test_a_second_report_or_card_of_one_place_is_refused(command, tmp_path, monkeypatch, capsys):
    output = tmp_path / "output"
    monkeypatch.setattr("hf_alignmlm.report.read_results", lambda _: [])
    monkeypatch.setattr("hf_alignmlm.hub.cards.card_of", lambda *_, **__: "card")
    option = {"report": "--output_dir", "card": "--output"}[command]
    with exclusive(output), pytest.raises(SystemExit) as stop:
        cli.run(command, [str(tmp_path), option, str(output)])
    assert stop.value.code == 2
    assert f"{output} is in use by another command" in capsys.readouterr().err
    assert not output.exists()


def test_a_second_push_of_a_folder_is_refused(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setattr("hf_alignmlm.hub.push.card_of", lambda *_, **__: "card")
    monkeypatch.setattr("hf_alignmlm.hub.push._contents", lambda _: ("model", {}))
    with exclusive(run), pytest.raises(SystemExit) as stop:
        cli.run("push", [str(run), "--repo_id", "me/name"])
    assert stop.value.code == 2
    assert f"{run} is in use by another command" in capsys.readouterr().err


def test_commands_show_no_bars_of_reading_and_writing_a_model(monkeypatch):
    monkeypatch.setattr("hf_alignmlm.report.main", lambda _: None)
    monkeypatch.setattr(logging, "_tqdm_active", True)
    before = are_progress_bars_disabled()  # of downloads
    cli.run("report", [])
    assert not logging.is_progress_bar_enabled()
    assert are_progress_bars_disabled() == before
