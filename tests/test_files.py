"""Files: whole or not at all, readable by others, errors that name them."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_alignmlm.files import exclusive, read_json, write_json, write_text


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_written_as_it_is(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("files") / "new folder" / "file.txt"
    write_text(path, text)
    assert path.read_bytes() == text.encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def fail(*_):
    raise OSError("no space left")


@pytest.mark.parametrize(
    "step", ["pathlib.Path.write_bytes", "os.chmod", "os.replace"], ids=lambda step: step[-7:]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


KILLED = """
import os, signal, sys
from hf_alignmlm import files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_text(sys.argv[1], "half")
"""


def test_what_a_killed_write_leaves_is_removed_by_the_next(tmp_path):
    path, mine = tmp_path / "file[1].txt", tmp_path / ".file[1].txt.mine"
    mine.write_text("mine")
    killed = subprocess.run([sys.executable, "-c", KILLED, path])
    assert killed.returncode == -signal.SIGKILL
    (left,) = {*tmp_path.iterdir()} - {mine}
    alive = left.with_name(f".{path.name}.{os.getppid()}.partial")
    alive.write_text("another process still writes")
    write_text(path, "whole")
    assert {*tmp_path.iterdir()} == {path, mine, alive}
    assert path.read_text() == "whole"


def test_json_comes_back_and_stays_legible(tmp_path):
    data = {"language": "trans_inv", "words": ["café", "ᐁ"], "share": 0.5, "none": None}
    write_json(tmp_path / "data.json", data)
    assert read_json(tmp_path / "data.json") == data
    text = (tmp_path / "data.json").read_text(encoding="utf-8")
    assert "café" in text
    assert text.endswith("}\n")


def test_what_is_not_json_is_an_error_that_names_the_file(tmp_path):
    write_text(tmp_path / "broken.json", json.dumps({"a": 1})[:-2])
    with pytest.raises(ValueError, match=r"broken\.json is not valid JSON") as caught:
        read_json(tmp_path / "broken.json")
    assert "\n" not in str(caught.value)


def test_one_command_at_a_time(tmp_path):
    folder = tmp_path / "new" / "run"
    with exclusive(folder):
        assert not folder.exists()
        again = exclusive(f"{folder}/")
        with pytest.raises(ValueError, match="run is in use by another command: wait"), again:
            pass
        with exclusive(tmp_path / "other"):
            pass
    # Nothing stays behind, and an error leaves it free.
    assert not any(folder.parent.iterdir())
    with pytest.raises(KeyError), exclusive(folder):
        raise KeyError
    with exclusive(folder):
        pass


HOLD = """
import signal, sys
from hf_alignmlm.files import exclusive

with exclusive(sys.argv[1]):
    print("held", flush=True)
    signal.pause()
"""


def test_a_killed_command_leaves_no_lock(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="in use"), exclusive(tmp_path / "run"):
            pass
        process.kill()
    with exclusive(tmp_path / "run"):
        pass
    assert not any(tmp_path.iterdir())
