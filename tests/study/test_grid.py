"""The grid and its driver; the steps are stand-ins that take no time."""

import fcntl
import json
import os
import shlex
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from study import driver, report
from study.__main__ import main, parse_options
from study.grid import plan

# A stand-in for all scripts: notes its call and leaves what the script would leave.
FAKE = """
import json, os, sys, time
from pathlib import Path

def value(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None

def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))

folder = Path(value("--output_dir") or value("--output"))
with open("calls", "a") as calls:
    device = os.environ.get("CUDA_VISIBLE_DEVICES")
    print(json.dumps([folder.name.split(".")[0], sys.argv, device]), file=calls)
if folder.name in Path("broken").read_text().split():
    print("the first line")
    sys.exit("the last line")
if folder.name in Path("endless").read_text().split():
    Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
arguments = {"learning_rate": 0.5, "seed": 42, "output_dir": str(folder), "fp16": False}
if folder.name == "parser":
    write(folder / "parser.json", {"scores": {"uas": 88.8, "las": 86.6}, "scored_on": "test"})
elif value("--output"):
    write(folder, "trees")
elif value("--objective"):
    log = [{"step": i, "mlm_loss": 9 - i / 1000, "loss": 0.0} for i in range(700)]
    write(folder / "trainer_state.json", {"log_history": log})
    write(folder / "checkpoint-5" / "optimizer.pt", "large")
    write(folder / "model.safetensors", "weights")
    write(folder / "all_results.json", {
        "objective": value("--objective"), "language": value("--language"), "train_steps": 7,
        "seed": int(value("--seed")), "alignment_p1": 50.0, "alignment_p1_seen": 60.0,
        "alignment_p1_heldout": 40.0, "alignment_p5": 99.0, "arguments": arguments,
        "eval_original_perplexity": 9.0, "eval_derived_perplexity": 9.0, "train_runtime": 600.0,
    })
else:
    made = json.loads(Path(value("--model_name_or_path"), "all_results.json").read_text())
    write(folder / "all_results.json", {
        "task": value("--task_name") or "nli", "objective": made["objective"],
        "language": made["language"], "pretraining_seed": made["seed"], "alignment_p1": 50.0,
        "source": 90.0, "bz": 60.0, "bs": 90.0, "transfer_gap": -30.0, "bz_by_seed": [60.0],
        "bs_by_seed": [90.0], "transfer_gap_by_seed": [-30.0], "arguments": arguments,
    })
"""
ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "docs" / "reproduction" / "mini"
# One objective, one language, one task: two steps.
SMALL = ["--objectives", "mlm", "--languages", "trans_inv", "--tasks", "pos"]


@pytest.fixture(autouse=True)
def scripts(tmp_path, monkeypatch):
    """A folder to work in, whose scripts come before the real ones for `python -m`."""
    modules = ("run_pretraining", "run_tagging", "run_xnli", "study/parser", "hf_alignmlm/__main__")
    for name in modules:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(FAKE)
    for name in ("broken", "endless", "calls", "study/__init__.py", "hf_alignmlm/__init__.py"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    # Figures take seconds; test_study_report.py draws them.
    monkeypatch.setattr(report, "_figures", lambda *_: "")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def calls() -> list:
    """The steps called since the last look, with their command lines and devices."""
    found = [json.loads(line) for line in Path("calls").read_text().splitlines()]
    Path("calls").write_text("")
    return found


def run(*argv: str) -> list[str]:
    """Run the driver; the names of the steps that it called."""
    main(["--output_dir", "runs", "--results_dir", "report", *argv])
    return [name for name, *_ in calls()]


def stored(name: str) -> dict:
    return json.loads(Path("report", "results", f"{name}.json").read_text())


def with_data(folder: str) -> list[str]:
    """Options of the mini preset on a data folder of empty files."""
    steps = plan(parse_options(["--preset", "mini"]))
    for word in {w for step in steps for w in step.command if w.startswith("{data}/")}:
        path = Path(word.replace("{data}", folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return ["--preset", "mini", "--data_dir", folder]


def test_the_grid_and_its_order():
    options = parse_options(["--preset", "mini"])
    steps = plan(options)
    kinds = Counter(step.kind for step in steps)
    assert kinds == {"pretraining": 23, "pos": 23, "ner": 20, "nli": 20, "parsing": 8, "parser": 1}
    names = [step.name for step in steps if not step.kind.startswith("pars")]
    assert names[:2] == ["mlm-trans_inv-42", "mlm-trans_inv-42-pos"]
    assert names[-2:] == ["align-mlm-trans_inv-42-d05", "align-mlm-trans_inv-42-d05-pos"]
    firsts = [names.index(f"mlm-{which}") for which in ("trans_inv-42", "trans-42", "trans_inv-43")]
    assert firsts == sorted(firsts)
    assert not any("trans-43" in name for name in names)
    recipes = {}
    for step in steps:
        if step.kind in ("pretraining", "ner") and "syn" not in step.name:
            words = [w for w in step.command if step.name not in w]
            words = [w for w in words if step.needs == () or step.needs[-1].name not in w]
            varying = ("--objective", "--language", "--seed", "--dictionary_fraction")
            fixed = [
                w
                for before, w in zip(["", *words], words, strict=False)
                if before not in varying and w not in varying
            ]
            recipes.setdefault(step.kind, set()).add(" ".join(fixed))
    assert all(len(found) == 1 for found in recipes.values())


def test_all_steps_run_once_and_leave_small_files(capsys):
    assert run(*SMALL) == ["mlm-trans_inv-42", "mlm-trans_inv-42-pos"]
    assert "[2/2] mlm-trans_inv-42-pos: P@1 50.0, source 90.0, BZ 60.0" in capsys.readouterr().out
    made, task = stored("mlm-trans_inv-42"), stored("mlm-trans_inv-42-pos")
    assert len(made["history"]) == 70
    assert made["history"][1] == {"step": 10, "mlm_loss": 8.99}
    assert "alignment_p5" not in made
    assert made["arguments"] == {"learning_rate": 0.5}
    assert made["seconds"] == 600
    assert [command[0] for command in task["commands"]] == ["run_pretraining", "run_tagging"]
    assert str(Path.cwd()) not in json.dumps([made, task])
    assert not Path("runs/mlm-trans_inv-42/checkpoint-5").exists()
    assert Path("runs/mlm-trans_inv-42/model.safetensors").exists()
    assert run(*SMALL) == []


def test_results_are_enough_to_go_on_from():
    tasks = [*SMALL[:-1], "pos", "ner"]
    run(*tasks)
    shutil.rmtree("runs")
    assert run(*tasks) == []
    Path("report/results/mlm-trans_inv-42-ner.json").unlink()
    assert run(*tasks) == ["mlm-trans_inv-42", "mlm-trans_inv-42-ner"]


def test_another_argument_runs_again_what_it_touches():
    tasks = [*SMALL[:-1], "pos", "ner"]
    run(*tasks)
    left = Path("runs/mlm-trans_inv-42-pos/left")
    left.touch()
    assert run(*tasks, "--override", "pos", "--num_train_epochs 9") == ["mlm-trans_inv-42-pos"]
    assert not left.exists()
    assert stored("mlm-trans_inv-42-pos")["commands"][1].count("--num_train_epochs") == 1
    again = run(*tasks, "--override", "pretraining", "--max_steps 9")
    assert sorted(again) == ["mlm-trans_inv-42", *(f"mlm-trans_inv-42-{t}" for t in ("ner", "pos"))]


def test_a_failed_cell_stops_no_other(capsys, monkeypatch):
    # As on an ordinary machine: a step's output is buffered, and comes after its errors.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    Path("broken").write_text("mlm-trans_inv-42")
    grid = ["--objectives", "mlm", "xlm", "--languages", "trans_inv", "--tasks", "pos"]
    with pytest.raises(SystemExit) as stopped:
        run(*grid)
    assert stopped.value.code == 1
    called = [name for name, *_ in calls()]
    assert sorted(called) == ["mlm-trans_inv-42", "xlm-trans_inv-42", "xlm-trans_inv-42-pos"]
    error = capsys.readouterr().err
    assert "FAILED mlm-trans_inv-42: exit code 1: the last line (all of it: " in error
    assert "FAILED mlm-trans_inv-42-pos: needs mlm-trans_inv-42" in error
    assert "FAILED mlm-trans_inv-42-pos" not in Path("report/README.md").read_text()
    assert "mlm-trans_inv-42-pos: needs" in Path("report/README.md").read_text()
    Path("broken").write_text("")
    assert run(*grid) == ["mlm-trans_inv-42", "mlm-trans_inv-42-pos"]


def test_a_stopped_driver_ends_its_steps_and_goes_on_later(capsys):
    Path("endless").write_text("mlm-trans_inv-42-pos")

    def stop() -> None:
        while not Path("pid").exists() or not Path("pid").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(SystemExit) as stopped:
        run(*SMALL)
    assert stopped.value.code == 130
    assert "The same command goes on from here" in capsys.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)
    Path("endless").write_text("")
    calls()
    assert run(*SMALL) == ["mlm-trans_inv-42-pos"]


def test_no_two_drivers_in_one_folder(capsys):
    Path("runs").mkdir()
    with open("runs/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit) as stopped:
            run(*SMALL)
    assert stopped.value.code == 2
    assert "another reproduction" in capsys.readouterr().err
    assert calls() == []


def test_missing_data_is_one_line_before_anything_starts(capsys):
    options = with_data("data")
    Path("data/books/train.txt.gz").unlink()
    with pytest.raises(SystemExit) as stopped:
        run(*options)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--data_dir data lacks books/train.txt.gz (" in error
    assert not Path("runs").exists()
    assert calls() == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--jobs", "0"], "--jobs"),
        (["--jobs", "-1"], "--jobs"),
        (["--seeds", "-1"], "--seeds"),
        (["--seeds", "5", "5"], "--seeds"),
        (["--dictionary_fractions", "nan"], "--dictionary_fractions"),
        (["--dictionary_fractions", "1", "-0.5"], "--dictionary_fractions"),
        (["--languages", "trans_nope"], "trans_nope"),
        (["--override", "nonsense", "5"], "--override nonsense"),
        (["--output_dir", "broken"], "broken"),
    ],
)
def test_an_option_that_is_wrong_is_refused_before_anything_starts(capsys, options, named):
    with pytest.raises(SystemExit) as stopped:
        run(*SMALL, *options)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]
    assert calls() == []
    assert not Path("runs").exists()


@pytest.mark.parametrize("text", ["", "[]", "null", '{"commands": []}', '{"commands": [["a"'])
def test_a_damaged_results_file_is_named_with_its_cure(capsys, text):
    run(*SMALL)
    path = Path("report/results/mlm-trans_inv-42.json")
    whole = path.read_text()
    path.write_text(text)
    for more in ([], ["--report_only"], ["--dry_run"]):
        with pytest.raises(SystemExit) as stopped:
            run(*SMALL, *more)
        assert stopped.value.code == 2
        assert str(path) in capsys.readouterr().err
    path.write_text(whole)
    assert run(*SMALL) == []


def test_syntax_waits_for_trees_and_the_rest_does_not():
    Path("broken").write_text("parser")
    grid = ["--objectives", "mlm", "--languages", "trans", "trans_syn-fr", "--tasks", "pos", "nli"]
    options = [*with_data("data"), *grid]
    with pytest.raises(SystemExit):
        run(*options)
    called = [name for name, *_ in calls()]
    assert sorted(called) == ["mlm-trans-42", "mlm-trans-42-nli", "mlm-trans-42-pos", "parser"]
    Path("broken").write_text("")
    main(["--output_dir", "runs", "--results_dir", "report", *options])
    commands = {name: argv for name, argv, _ in calls()}
    assert {name for name in commands if "-42" not in name} == {
        *("parser", "books-train", "books-validation"),
        *("sick-train", "sick-validation", "sick-test"),
    }
    made = commands["mlm-trans_syn-fr-42"]
    place = made.index("--train_file")
    assert made[place + 1] == "runs/parsed/books-train.parquet"
    assert made[place + 2] == "data/ud/en_ewt-ud-train.conllu.gz"
    assert "runs/parsed/sick-test.parquet" in commands["mlm-trans_syn-fr-42-nli"]
    assert "data/ud/en_ewt-ud-test.conllu.gz" in commands["mlm-trans_syn-fr-42-pos"]
    assert "UAS 88.8" in Path("report/README.md").read_text()
    # A parser that is there is not trained again.
    Path("report/results/parser.json").unlink()
    assert run(*options) == []
    assert stored("parser")["uas"] == 88.8
    # Without the runs, trees are made again for what needs them alone.
    shutil.rmtree("runs")
    assert run(*options) == []
    Path("report/results/mlm-trans_syn-fr-42-nli.json").unlink()
    assert {"parser", "books-train", "sick-train", "mlm-trans_syn-fr-42"} < set(run(*options))


def test_a_job_a_device(monkeypatch):
    grid = ["--objectives", "mlm", "xlm", "--languages", "trans_inv", "--tasks", "pos", "ner"]
    run(*grid)
    Path("report").rename("cpu")
    shutil.rmtree("runs")
    monkeypatch.setattr(driver.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(driver.torch.cuda, "get_device_name", lambda index: f"device {index}")
    main(["--output_dir", "runs", "--results_dir", "report", *grid])
    found = calls()
    assert {device for *_, device in found} == {"0", "1"}
    assert not any("--use_cpu" in argv for _, argv, _ in found)
    assert stored("mlm-trans_inv-42")["machine"]["gpus"] == ["device 0", "device 1"]
    assert "--use_cpu" not in Path("report/commands.sh").read_text()
    assert "--use_cpu" in Path("cpu/commands.sh").read_text()


def test_results_of_release_0_1_0_count(capsys):
    report_of_now = ["--preset", "mini", "--results_dir", "report"]
    shutil.copytree(COMMITTED / "results", "report/results")
    main([*report_of_now, "--data_dir", "nowhere", "--dry_run"])
    assert capsys.readouterr().out == ""
    main([*report_of_now, "--report_only"])
    assert Path("report/summary.json").read_text() == (COMMITTED / "summary.json").read_text()
    assert Path("report/commands.sh").read_text() == (COMMITTED / "commands.sh").read_text()
    old = (COMMITTED / "README.md").read_text().splitlines()
    new = Path("report/README.md").read_text().splitlines()
    # All but the command line, and the figures' part, which is left out here.
    assert [line for line in new if line not in old] == [
        f"python -m study {' '.join(report_of_now)}"
    ]
    assert "No step of the grid." in new
    capsys.readouterr()
    # With another parser they do not count, and neither does what was made from its trees.
    main([*report_of_now, "--override", "parser", "--max_steps 9", "--dry_run"])
    modules = {shlex.split(line)[2] for line in capsys.readouterr().out.splitlines()}
    assert modules == {"study.parser", "hf_alignmlm", "run_pretraining", "run_tagging", "run_xnli"}


def test_the_report_names_no_folder_of_data(monkeypatch):
    monkeypatch.setattr("sys.argv", ["study", "--data_dir", "/home/me/data", "--report_only"])
    assert parse_options(None).command == "--data_dir DATA"


def test_a_step_that_prints_no_error_is_told_as_one(capsys):
    # As a program that a signal ends, and none of Python's.
    Path("run_pretraining.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(SystemExit):
        run(*SMALL)
    assert "FAILED mlm-trans_inv-42: exit code -9: it printed no error (" in capsys.readouterr().err
