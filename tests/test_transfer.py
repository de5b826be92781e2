"""The report: cells, correlations, tables and figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_alignmlm import report as transfer
from hf_alignmlm.files import write_json
from study.paper import paper_cells


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


@given(st.lists(st.integers(0, 100), min_size=4, max_size=8, unique=True))
def test_correlation_is_one_where_order_agrees(values):
    found = transfer.correlation(values, [2.0 * v for v in values])
    assert found is not None
    assert found.rho == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0)
    assert transfer.correlation(values, [-v for v in values]).rho == pytest.approx(-1.0)


def test_the_interval_does_not_hang_on_the_order_of_the_cells():
    cells = list(paper_cells().values())
    assert transfer.correlations(cells) == transfer.correlations(cells[::-1])


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
    assert "| POS | trans_inv | mlm | 90.0 ± 0.0 | 45.0 ± 7.1 | -45.0 ± 7.1 | 0.3 | 2 |" in text
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
    cells = transfer.cells_of(transfer.read_results(tmp_path))
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
