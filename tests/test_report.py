"""The report: cells, correlations, tables and figures."""

import json
import logging
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_alignmlm import figures, results
from hf_alignmlm import report as transfer
from hf_alignmlm.files import write_json


def run(objective: str, task: str, bz: list[float], p1: float) -> dict:
    bs = [90.0] * len(bz)
    return {
        "task": task,
        "objective": objective,
        "language": "trans_inv",
        "alignment_p1": p1,
        "bz_by_seed": bz,
        "bs_by_seed": bs,
        "transfer_gap_by_seed": [a - b for a, b in zip(bz, bs, strict=True)],
    }


# ALIGN-MLM's table of parts of speech: by objective, P@1 and gap on trans, trans_inv, trans_syn.
PAPER = {
    "mlm": [(90.0, -0.4), (0.3, -38.5), (57.3, -2.0)],
    "xlm": [(97.7, -0.2), (85.6, -33.2), (98.6, -0.9)],
    "dict-mlm": [(95.7, -0.3), (64.2, -19.0), (93.7, -1.0)],
    "align-mlm": [(98.4, -0.1), (95.2, -3.0), (98.2, -0.8)],
}
CELLS = [
    transfer.Cell(objective, language, "pos", bz=[50.0], gap=[gap], alignment=[p1])
    for objective, pairs in PAPER.items()
    for language, (p1, gap) in zip(("trans", "trans_inv", "trans_syn"), pairs, strict=True)
]


def test_the_papers_cells_give_the_papers_correlation():
    (result,) = transfer.correlations(CELLS).values()
    assert (round(result.rho, 3), result.n) == (0.734, 12)


@given(st.lists(st.integers(0, 100), min_size=4, max_size=8, unique=True))
def test_correlation_is_one_where_order_agrees(values):
    found = transfer.correlation(values, [2.0 * v for v in values])
    assert found is not None
    assert found.rho == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0)
    assert transfer.correlation(values, [-v for v in values]).rho == pytest.approx(-1.0)


def test_the_interval_does_not_hang_on_the_order_of_the_cells():
    assert transfer.correlations(CELLS) == transfer.correlations(CELLS[::-1])
    renamed = [replace(cell, language=cell.language[::-1]) for cell in CELLS]
    assert transfer.correlations(CELLS) == transfer.correlations(renamed)


def test_no_correlation_of_two_cells_or_of_equal_ones():
    assert transfer.correlation([1, 2], [1, 2]) is None
    assert transfer.correlation([1, 1, 1], [1, 2, 3]) is None


def test_report_of_a_folder(tmp_path):
    for name, result in {
        "a": run("mlm", "pos", [40.0, 50.0], 0.3),
        "b": run("align-mlm", "pos", [80.0, 82.0], 100.0),
        "c": run("xlm", "pos", [60.0], 80.0),
        "d": run("mlm", "ner", [30.0], 0.3),
        "e": {"objective": "mlm", "language": "trans_inv", "train_steps": 5, "alignment_p1": 0.3},
    }.items():
        write_json(tmp_path / name / "all_results.json", result)
    text = transfer.report(tmp_path, tmp_path / "out")
    assert "| POS | trans_inv | mlm | 90.0 ± 0.0 | 45.0 ± 7.1 | -45.0 ± 7.1 | 0.3 | 2 |\n" in text
    assert "ρ = 1.000" in text
    assert "Missing cells of this grid: align-mlm/trans_inv/ner, xlm/trans_inv/ner." in text
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        *("transfer.md", "transfer.csv", "transfer.png"),
        *("alignment_vs_transfer.png", "pretraining_loss.png"),
    }
    lines = (tmp_path / "out" / "transfer.csv").read_text().splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("mlm,trans_inv,pos,2,90.0,0.0,45.0,")


def test_a_folder_without_runs_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        transfer.main([str(tmp_path)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no all_results.json" in error


def test_another_dictionary_is_another_cell(tmp_path):
    whole, half = {"dictionary_fraction": 1.0}, {"dictionary_fraction": 0.5}
    for name, arguments in {"whole": whole, "half": half}.items():
        made = {"objective": "align-mlm", "language": "trans_inv", "train_steps": 5}
        write_json(tmp_path / name / "all_results.json", {**made, "arguments": arguments})
        task = run("align-mlm", "pos", [60.0], 50.0)
        model = {"model_name_or_path": str(tmp_path / name)}
        write_json(tmp_path / f"{name}-pos/all_results.json", {**task, "arguments": model})
    cells = transfer.cells_of(results.read_results(tmp_path))
    assert {key[0]: len(cell.bz) for key, cell in cells.items()} == {
        "align-mlm": 1,
        "align-mlm, 50% of the pairs": 1,
    }


def test_results_files_stand_in_for_runs(tmp_path):
    history = [{"step": 1, "mlm_loss": 9.0}, {"step": 2, "mlm_loss": 8.0}]
    made = {"objective": "mlm", "language": "trans_inv", "train_steps": 5, "seed": 7}
    for name, result in {
        "mlm-7": {**made, "history": history, "dictionary_fraction": 1.0},
        "mlm-7-pos": {**run("mlm", "pos", [40.0], 0.3), "dictionary_fraction": 1.0},
    }.items():
        write_json(tmp_path / "results" / f"{name}.json", result)
    text = transfer.report(tmp_path, tmp_path / "out")
    assert "| mlm | trans_inv | 7 | 100% | 5 |" in text
    assert "| POS | trans_inv | mlm | 90.0 | 40.0 |" in text


def test_reference_numbers_stand_beside_a_cell(tmp_path):
    results = [run("mlm", "pos", [40.0], 0.3), run("xlm", "pos", [60.0], 80.0)]
    beside = {("xlm", "trans_inv", "pos"): {"paper BZ": 61.8}, ("xlm", "inv", "pos"): {"other": 1}}
    cells = transfer.cells_of(results).values()
    header, _, mlm, xlm = transfer.transfer_table(cells, beside).splitlines()
    assert header.endswith("| seeds | paper BZ |")
    assert mlm.endswith("| 1 | – |")
    assert xlm.endswith("| 1 | 61.8 |")
    transfer.sections(results, tmp_path, beside)
    header, mlm, xlm = (tmp_path / "transfer.csv").read_text().splitlines()
    assert header.endswith(",alignment,alignment_sd,paper BZ")
    assert mlm.endswith(",0.3,,")
    assert xlm.endswith(",80.0,,61.8")


def test_what_no_registry_knows_is_shown_by_its_name(tmp_path):
    """A plug-in's results without the plug-in, and two dictionaries, each with a colour."""
    part = {"dictionary_fraction": 0.5}
    made = {"language": "trans_inv", "train_steps": 5, "history": [{"step": 1, "mlm_loss": 9.0}]}
    for name, result in {
        "a": {**made, "objective": "mine"},
        "b": run("mine", "chunks", [40.0], 10.0),
        "c": run("align-mlm", "pos", [80.0], 90.0),
        "d": run("align-mlm", "pos", [70.0], 50.0) | part,
    }.items():
        write_json(tmp_path / name / "all_results.json", result)
    text = transfer.report(tmp_path, tmp_path / "out")
    rows = [line.split(" | ")[:3] for line in text.splitlines() if line.startswith("| ")]
    assert ["| chunks", "trans_inv", "mine"] in rows
    assert ["| POS", "trans_inv", "align-mlm, 50% of the pairs"] in rows
    assert (tmp_path / "out" / "transfer.png").stat().st_size > 5000
    colours = figures._colours(["mine", "align-mlm, 50% of the pairs", "align-mlm", "mlm"])
    assert list(colours)[:2] == ["mlm", "align-mlm"]
    assert len(set(colours.values())) == 4


def test_a_bar_in_a_name_is_no_border_of_a_table():
    cells = [transfer.Cell("a|b\\|c\nd", "trans", "pos", bz=[50.0])]
    table = transfer.transfer_table(cells).splitlines()
    assert len(table) == 3
    assert {line.count("|") for line in table} == {9}


DRAW = """
import sys
from pathlib import Path
import hf_alignmlm.report as report
loaded = {"matplotlib.figure", "scipy.stats"} & set(sys.modules)
cells = [report.Cell("mlm", "inv", "pos", [9.0], [8.0], [p], [p]) for p in (1.0, 2.0, 3.0)]
report.figures.plot_transfer(report.cell_frame(cells), Path(sys.argv[1]))
print(sorted(loaded), "matplotlib.pyplot" in sys.modules)
"""


def test_a_users_session_keeps_its_backend(tmp_path):
    command = [sys.executable, "-c", DRAW, str(tmp_path / "x.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
    assert "matplotlib" not in done.stdout
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_by_its_command(tmp_path, capsys):
    write_json(tmp_path / "runs/a/all_results.json", run("mlm", "pos", [40.0], 0.3))
    transfer.main([str(tmp_path / "runs"), "--output_dir", str(tmp_path / "out")])
    assert "| POS | trans_inv | mlm | 90.0 | 40.0 |" in capsys.readouterr().out
    assert (tmp_path / "out" / "alignment_vs_transfer.png").exists()


MADE = {"objective": "mlm", "language": "trans_inv", "train_steps": 5, "alignment_p1": 0.3}
TASK = run("mlm", "pos", [40.0], 0.3)
DAMAGED = {
    "cut short": '{"task": "pos", ',
    "a list": "[1, 2]",
    "of another tool": '{"accuracy": 0.9, "epoch": 3.0}',
    "not UTF-8": b"\xff\xfe{}",
    "no scores": {**TASK, "bz_by_seed": None},
    "no language": {**MADE, "language": None},
    "scores as strings": {**TASK, "bz_by_seed": ["40.0"]},
    "a score as a list": {**MADE, "alignment_p1": [0.3]},
    "a score as a truth": {**MADE, "alignment_p1": True},
    "NaN": {**MADE, "eval_original_perplexity": float("nan")},
    "infinity": {**TASK, "bz_by_seed": [float("inf")]},
    "more than a float holds": {**MADE, "alignment_p1": 10**400},
    "steps as a string": {**MADE, "train_steps": "5"},
    "a name of two lines": {**MADE, "objective": "a\n| b"},
    "a name that is a list": {**MADE, "objective": ["mlm"]},
    "arguments as a list": {**MADE, "arguments": [1]},
    "a share as a string": {**MADE, "arguments": {"dictionary_fraction": "half"}},
    "a checkpoint as a number": {**TASK, "arguments": {"model_name_or_path": 5}},
    "a log without steps": {**MADE, "history": [{"mlm_loss": 1.0}]},
    "a log of numbers": {**MADE, "history": 5},
}


def test_a_damaged_results_file_is_named_and_left_out(tmp_path, caplog, monkeypatch):
    """One warning line each; the report is that of the others."""
    write_json(tmp_path / "whole/pos/all_results.json", run("m$l_{m", "pos", [40.0], 0.3))
    write_json(tmp_path / "whole/made/all_results.json", MADE | {"arguments": None})
    nulls = {"dictionary_fraction": None, "arguments": {"dictionary_fraction": None}}
    write_json(tmp_path / "whole/nulls/all_results.json", MADE | nulls)
    whole = transfer.report(tmp_path / "whole", tmp_path / "out")
    for number, damage in enumerate(DAMAGED.values()):
        path = tmp_path / f"whole/bad{number}/all_results.json"
        path.parent.mkdir()
        if isinstance(damage, dict):
            path.write_text(json.dumps(damage))
        else:
            path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    state = tmp_path / "whole/bad-state"
    write_json(state / "all_results.json", MADE)
    (state / "trainer_state.json").write_text("[")
    monkeypatch.setattr(results.logger, "propagate", True)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.clear()
    assert transfer.report(tmp_path / "whole", tmp_path / "out") == whole
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(DAMAGED) + 1
    assert not [line for line in lines if "\n" in line]
    for number in range(len(DAMAGED)):
        assert sum(f"bad{number}/" in line for line in lines) == 1
    assert sum("bad-state/trainer_state.json" in line for line in lines) == 1


def test_no_run_among_the_files_is_one_line(tmp_path, capsys):
    write_json(tmp_path / "all_results.json", {"accuracy": 0.9})
    with pytest.raises(SystemExit) as stopped:
        transfer.main([str(tmp_path)])
    assert stopped.value.code == 2
    assert "all_results.json of a run below it" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["all_results.json"]


def test_a_task_of_the_source_alone_is_reported_without_transfer(tmp_path):
    result = {"task": "pos", "metric": "accuracy", "language": "en", "languages": ["en"]}
    write_json(
        tmp_path / "all_results.json", result | {"transfer": {}, "source": 67.04, "bz": None}
    )
    text = transfer.report(tmp_path, tmp_path / "report")
    assert "- POS: accuracy 67.0 on en, and no test file of another language" in text
    assert "BS:" not in text
