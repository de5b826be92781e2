"""The whole program tried hard: damaged inputs, odd options, kills, two at once, memory.

A sample of the damaged inputs runs in the suite. The rest is slow: `pytest -m slow
tests/robustness`. What came of each case is written to the folder that ALIGNMLM_ROBUSTNESS names,
else to a temporary one; how to run a part by hand stands at the top of each module beside.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import datasets
import pytest
import torch
from cases import Case, every_case
from verdicts import BAD, Verdict, judge, run, summary
from world import World

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Good inputs of every command."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield World(tmp_path_factory.mktemp("world"))
    torch.set_num_threads(before)


@pytest.fixture
def outcomes(tmp_path):
    """The folder for what came of each case."""
    folder = Path(os.environ.get("ALIGNMLM_ROBUSTNESS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def module(name, scratch, *words):
    """Call one of the modules beside, in a process of its own."""
    environment = os.environ | {
        **{
            "PYTHONPATH": str(ROOT),
            "ALIGNMLM_SCRATCH": str(scratch),
            "ALIGNMLM_WORLD": str(scratch),
        },
        **{"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    }
    command = [sys.executable, str(HERE / f"{name}.py"), *map(str, words)]
    return subprocess.run(command, env=environment, check=False).returncode


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- damaged inputs and odd options ---------------------------------------------------------------


def sample():
    # Parsing needs spaCy, which takes seconds to load; tests of its own try it.
    quick = [case for case in every_case() if case.command != "parse"]
    return Random("sample").sample(quick, 40)


@pytest.mark.parametrize("case", sample(), ids=lambda case: case.name)
def test_a_sample_of_damaged_inputs_and_odd_options(world, tmp_path, case):
    datasets.disable_progress_bars()
    verdict = run(case, world, tmp_path / "case")
    assert verdict.verdict not in BAD, verdict


def test_the_judge_sees_what_is_wrong(tmp_path):
    def verdict(code, printed="", right=None, option=False):
        case = Case("a/case", "tag", lambda *_: {}, right, ("--seeds",), option)
        return judge(case, code, printed, tmp_path)[0]

    (tmp_path / "rows.txt").touch()
    line = "tag: error: --seeds must not be negative\n"
    assert verdict(0) == "ok"
    assert verdict(0, right=False) == "accepted though wrong"
    assert verdict(2, line) == "refused"
    assert verdict(2, f"usage: tag [-h]\n{line}") == "refused"
    assert verdict(2, "tag: error: rows.txt, row 1, is none\n") == "refused"
    assert verdict(2, line, right=True) == "refused though right"
    assert verdict(2, "tag: error: something is wrong\n") == "names nothing"
    assert verdict(2, line + line) == "several lines"
    assert verdict(1, line) == "several lines"
    assert verdict(KeyError("x")) == "TRACEBACK"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "half").touch()
    assert verdict(2, line, option=True) == "wrote before it refused"


@pytest.mark.slow
def test_every_damaged_input_and_odd_option(tmp_path, outcomes):
    out = outcomes / "cases.jsonl"
    # What brings the process down is noted as such, and the next process goes on behind it.
    while module("verdicts", tmp_path, out):
        assert len(lines(out)) < len(every_case())
    verdicts = [Verdict(**line) for line in lines(out)]
    (outcomes / "cases.txt").write_text(summary(verdicts))
    assert len(verdicts) == len(every_case()) >= 1000
    bad = [f"{v.verdict}: {v.name}: {v.message}" for v in verdicts if v.verdict in BAD]
    assert not bad, "\n".join(bad)


# --- killed, twice at once, large -----------------------------------------------------------------

POINTS = 13


@pytest.mark.slow
def test_what_was_killed_goes_on_to_the_same_result(tmp_path, outcomes):
    out = outcomes / "kills.jsonl"
    assert module("kills", tmp_path, out, POINTS) == 0
    found = lines(out)
    assert sum(outcome["of"] > 0 for outcome in found) >= 100
    assert not [outcome for outcome in found if outcome["wrong"]]


@pytest.mark.slow
def test_of_two_at_once_one_works_and_one_is_refused(tmp_path, outcomes):
    out = outcomes / "two.jsonl"
    assert module("kills", tmp_path, out, "two") == 0
    assert not [outcome for outcome in lines(out) if outcome["wrong"]]


@pytest.mark.slow
def test_inputs_out_of_proportion_take_little_memory(tmp_path, outcomes):
    out = outcomes / "memory.jsonl"
    assert module("memory", tmp_path, out) == 0
    found = lines(out)
    assert len(found) == 16
    assert not [row for row in found if row["mib_beyond"] > 2048 or row["code"] not in (0, 2)]
