"""Options, one-line errors, and the folder that a run owns."""

import json
import shutil
import sys
from dataclasses import fields
from types import SimpleNamespace

import pytest

from hf_alignmlm.arguments import one_line_errors, parse, peek, versions
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.pretraining.options import DataArguments, ModelArguments
from hf_alignmlm.runs import (
    ARGUMENTS_FILE,
    FREE_ARGUMENTS,
    MANIFEST_FILE,
    RESULTS_FILE,
    begin_checkpoint,
    check_output_dir,
    claim_output_dir,
    last_whole_checkpoint,
    seal_checkpoint,
)
from hf_alignmlm.trainer import AlignMLMTrainingArguments

CLASSES = [ModelArguments, DataArguments, OBJECTIVES["xlm"], AlignMLMTrainingArguments]


# --- options --------------------------------------------------------------------------------------


def test_an_explicit_option_wins_over_a_default_given_and_that_over_the_classs_own(tmp_path):
    defaults = {"output_dir": str(tmp_path), "learning_rate": 0.5, "max_steps": 7}
    (*_, arguments), given = parse(CLASSES, ["--learning_rate", "0.25", "--use_cpu"], **defaults)
    assert arguments.learning_rate == given["learning_rate"] == 0.25
    assert arguments.max_steps == given["max_steps"] == 7
    assert arguments.save_total_limit == given["save_total_limit"] == 2


def test_the_plain_dictionary_makes_the_run_again_and_holds_no_token(tmp_path):
    argv = ["--objective", "xlm", "--tlm_rate", "0.25", "--train_file", "a.txt", "b.txt"]
    argv += ["--hub_token", "secret", "--output_dir", str(tmp_path), "--use_cpu"]
    first, given = parse(CLASSES, argv)
    assert "secret" not in json.dumps(given)
    again = [f"--{name}={given[name]}" for name in ("objective", "tlm_rate", "output_dir")]
    again += ["--train_file", *given["train_file"], "--use_cpu"]
    second, given_again = parse(CLASSES, again)
    assert given == given_again
    assert first[1:3] == second[1:3]


@pytest.mark.parametrize("dataclass", [ModelArguments, DataArguments, *OBJECTIVES.values()])
def test_every_option_has_a_help_text(dataclass):
    for field in fields(dataclass):
        assert field.metadata["help"].endswith("."), field.name


def test_arguments_that_may_change_exist():
    known = {field.name for dataclass in CLASSES for field in fields(dataclass)}
    assert known >= FREE_ARGUMENTS


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--learning_rat", "1"], "--learning_rat"),
        (["--max_steps", "many"], "--max_steps"),
        (["--learning_rate"], "--learning_rate"),
        (["--lr_scheduler_type", "sideways"], "sideways"),
    ],
)
def test_a_wrong_option_is_one_line(argv, named, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(CLASSES, [*argv, "--output_dir", str(tmp_path)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "error:" in line
    assert named in line


def test_peek_reads_a_few_options_and_leaves_the_others():
    argv = ["--size", "small", "--unknown", "x", "--objective=xlm"]
    chosen = peek(argv, size="mini", objective="align-mlm", language="trans_inv")
    assert chosen == {"size": "small", "objective": "xlm", "language": "trans_inv"}


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), FileNotFoundError("a b"), OSError(), ImportError("a b")]
)
def test_a_mistake_of_the_users_is_one_line(error, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/run.py"])
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise error
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line in ("run.py: error: a b", "run.py: error: OSError")


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(KeyError), one_line_errors():
        raise KeyError("ours")


# --- the folder of a run --------------------------------------------------------------------------


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_new_or_empty_folder_is_free_and_checking_it_writes_nothing(tmp_path):
    assert check_output_dir(tmp_path / "new", {"seed": 1}) is False
    assert not (tmp_path / "new").exists()
    assert check_output_dir(tmp_path, {"seed": 1}) is False
    assert not any(tmp_path.iterdir())


def test_the_same_run_goes_on_or_has_finished(tmp_path):
    claim_output_dir(tmp_path / "run", {"seed": 1})
    assert check_output_dir(tmp_path / "run", {"seed": 1}) is False
    (tmp_path / "run" / RESULTS_FILE).write_text("{}")
    before = snapshot(tmp_path)
    assert check_output_dir(tmp_path / "run", {"seed": 1}) is True
    free = dict.fromkeys(FREE_ARGUMENTS, "other")
    assert check_output_dir(tmp_path / "run", {"seed": 1, **free}) is True
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("other", [{"seed": 2}, {"seed": 1, "lowercase": True}, {}])
def test_another_run_is_refused_by_what_differs(tmp_path, other):
    claim_output_dir(tmp_path, {"seed": 1})
    before = snapshot(tmp_path)
    name = "lowercase" if "lowercase" in other else "seed"
    with pytest.raises(ValueError, match=rf"differs in {name}.*--overwrite_output_dir"):
        check_output_dir(tmp_path, other)
    assert snapshot(tmp_path) == before
    assert check_output_dir(tmp_path, other, overwrite=True) is False
    assert snapshot(tmp_path) == before


def test_another_command_that_came_first_is_seen(tmp_path):
    assert check_output_dir(tmp_path, {"seed": 1}) is False
    claim_output_dir(tmp_path, {"seed": 2})
    with pytest.raises(ValueError, match="differs in seed"):
        claim_output_dir(tmp_path, {"seed": 1})


def test_a_folder_of_other_things_and_a_file_are_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear reader")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        check_output_dir(tmp_path, {})
    for overwrite in (False, True):
        with pytest.raises(NotADirectoryError, match=r"letter\.txt is a file"):
            check_output_dir(tmp_path / "letter.txt", {}, overwrite=overwrite)


def test_a_damaged_record_of_the_arguments_is_named(tmp_path):
    (tmp_path / ARGUMENTS_FILE).write_text('{"seed":')
    with pytest.raises(ValueError, match=ARGUMENTS_FILE):
        check_output_dir(tmp_path, {"seed": 1})


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    claim_output_dir(tmp_path, {"seed": 1})
    old = (RESULTS_FILE, "tokenizer.json", "dictionary.json", "language.json", "model.safetensors")
    for name in old:
        (tmp_path / name).write_text("old")
    for name, finish in (("checkpoint-5", seal_checkpoint), ("checkpoint-7", begin_checkpoint)):
        (tmp_path / name).mkdir()
        finish(tmp_path / name)
        (tmp_path / name / "model.safetensors").write_text("old")
    for name in ("checkpoint-8", "checkpoint-9"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-9" / f".{MANIFEST_FILE}.x7").write_text("half")
    (tmp_path / "scores-derived-3.json").write_text("old")
    (tmp_path / "checkpoints-original-0" / "checkpoint-4").mkdir(parents=True)
    (tmp_path / f".{RESULTS_FILE}.x7").write_text("half")
    mine = {"notes.txt", "checkpoint-old.txt", "scores-mine.json", "checkpoint-5.zip", ".notes"}
    for name in mine:
        (tmp_path / name).write_text("mine")
    (tmp_path / "plots").mkdir()
    claim_output_dir(tmp_path, {"seed": 2}, overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {ARGUMENTS_FILE, "plots", *mine}
    assert {(tmp_path / name).read_text() for name in mine} == {"mine"}
    assert json.loads((tmp_path / ARGUMENTS_FILE).read_text()) == {"seed": 2}


@pytest.mark.parametrize(
    ("name", "claimed"),
    [("model.safetensors", False), ("checkpoint-5/a.bin", False), ("checkpoint-5/a.bin", True)],
)
def test_what_no_run_of_ours_wrote_is_not_overwritten(tmp_path, name, claimed):
    if claimed:
        claim_output_dir(tmp_path, {"seed": 1})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    for act in (check_output_dir, claim_output_dir):
        with pytest.raises(ValueError, match=r"is of no run of these scripts.*move it away"):
            act(tmp_path, {"seed": 2}, overwrite=True)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("output", ["model", ".", "model/again", "model/../model"])
def test_overwriting_stays_away_from_the_checkpoint_it_starts_from(tmp_path, output):
    claim_output_dir(tmp_path / "model", {"seed": 1})
    with pytest.raises(ValueError, match=r"could remove .*model, which this run starts from"):
        check_output_dir(tmp_path / output, {}, overwrite=True, keep=tmp_path / "model")
    assert not check_output_dir(tmp_path / "b", {}, overwrite=True, keep=tmp_path / "model")
    assert not check_output_dir(tmp_path / "b", {}, overwrite=True, keep="bert-base-cased")


# --- whole checkpoints ----------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path):
    for step in (8, 9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "inner").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(range(200)))
        (folder / "inner" / "state.bin").write_bytes(b"state")
        seal_checkpoint(folder)
    return tmp_path


def truncate(folder):
    (folder / "model.safetensors").write_bytes(bytes(range(199)))


def flip_a_bit(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[100] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def remove_a_file(folder):
    (folder / "inner" / "state.bin").unlink()


def leave_it_unsealed(folder):
    (folder / MANIFEST_FILE).unlink()


def leave_it_begun(folder):
    shutil.rmtree(folder)
    begin_checkpoint(folder)


def damage_the_seal(folder):
    (folder / MANIFEST_FILE).write_text("{")


def test_the_newest_checkpoint_is_taken_by_its_number(checkpoints):
    (checkpoints / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(checkpoints) == str(checkpoints / "checkpoint-10")
    assert last_whole_checkpoint(checkpoints / "nowhere") is None


@pytest.mark.parametrize(
    "damage",
    [truncate, flip_a_bit, remove_a_file, leave_it_unsealed, leave_it_begun, damage_the_seal],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(checkpoints, damage, monkeypatch):
    said = []
    record = SimpleNamespace(warning=lambda text, *values: said.append(text % values))
    monkeypatch.setattr("hf_alignmlm.runs.logger", record)
    damage(checkpoints / "checkpoint-10")
    assert last_whole_checkpoint(checkpoints) == str(checkpoints / "checkpoint-9")
    assert len(said) == 1
    assert "checkpoint-10 is damaged or incomplete" in said[0]
    damage(checkpoints / "checkpoint-9")
    damage(checkpoints / "checkpoint-8")
    assert last_whole_checkpoint(checkpoints) is None


def test_a_checkpoint_begun_again_is_new(checkpoints):
    (checkpoints / "checkpoint-10" / f".{MANIFEST_FILE}.x7").write_text("half")
    begin_checkpoint(checkpoints / "checkpoint-10")
    assert [p.name for p in (checkpoints / "checkpoint-10").iterdir()] == [MANIFEST_FILE]
    assert last_whole_checkpoint(checkpoints) == str(checkpoints / "checkpoint-9")


def test_versions_are_of_what_a_result_depends_on():
    found = versions()
    assert {"python", "torch", "transformers", "datasets", "tokenizers"} <= found.keys()
    assert all(value[0].isdigit() for value in found.values())


def test_disable_tqdm_means_every_bar(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr("datasets.disable_progress_bars", lambda: called.append(True))
    argv = ["--output_dir", str(tmp_path), "--use_cpu", "--report_to", "none"]
    parse([AlignMLMTrainingArguments], argv)
    assert not called
    parse([AlignMLMTrainingArguments], [*argv, "--disable_tqdm", "True"])
    assert called
