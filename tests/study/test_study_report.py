"""The report of the grid: what was to be shown, tables and figures."""

import json
from collections import Counter
from itertools import product
from pathlib import Path

from study.__main__ import parse_options
from study.grid import LANGUAGES, OBJECTIVES, TASKS, plan
from study.report import write_report
from study.summary import summary


def results(bz: dict[str, float], seeds: int = 3) -> list[dict]:
    """Results of a whole grid; `bz` are the scores at trans_inv, by objective."""
    found = []
    for objective, language in product(OBJECTIVES, LANGUAGES):
        for seed in range(seeds if language == "trans_inv" else 1):
            place = OBJECTIVES.index(objective)
            p1 = 32.0 * place if language == "trans_inv" else 97.0 + place
            common = {"objective": objective, "language": language, "dictionary_fraction": 1.0}
            common |= {"alignment_p1": p1, "seconds": 60.0, "machine": {"gpus": []}, "folder": "."}
            made = {**common, "train_steps": 7, "seed": seed, "alignment_p1_heldout": None}
            found.append({**made, "name": f"{objective}-{language}-{seed}"})
            for task in ("pos", "ner", "nli"):
                score = bz[objective] + seed if language == "trans_inv" else 80 + p1 / 10
                scores = {"bz": [score], "bs": [92.0], "transfer_gap": [score - 92]}
                row = {**common, "task": task, "pretraining_seed": seed}
                row |= {f"{name}_by_seed": v for name, v in scores.items()}
                row |= {name: v[0] for name, v in scores.items()}
                found.append({**row, "name": f"{objective}-{language}-{seed}-{task}"})
    for share in (0.5, 0.25, 0.05):
        made, task = (
            next(r for r in found if r["name"] == f"align-mlm-trans_inv-0{end}")
            for end in ("", "-pos")
        )
        changes = {"dictionary_fraction": share, "name": f"d{share}"}
        found.append({**made, **changes, "alignment_p1_heldout": 100 * share})
        found.append({**task, **changes, "bz": 60 * share})
    return found


PLANNED = Counter(
    {
        (objective, language, task): 3 if language == "trans_inv" else 1
        for objective, language, task in product(OBJECTIVES, LANGUAGES, TASKS)
    }
)
GOOD = {"mlm": 25.0, "xlm": 50.0, "dict-mlm": 55.0, "align-mlm": 65.0}


def test_the_summary_of_a_whole_grid():
    rows = summary(results(GOOD), PLANNED)
    assert [row["value"] for row in rows[:6]] == [
        *(40, 15, 92, 3, 24),
        {"align-mlm": 96, "mlm": 0},
    ]
    assert [row["met"] for row in rows] == [True, False, True, True, True, True, True, True]
    assert rows[0]["seeds"] == 3
    assert rows[4]["seeds"] == 1
    assert rows[6]["value"] == 1
    assert rows[6]["interval"] == [1, 1]
    curve = [(point["share"], point["bz"], point["heldout_p1"]) for point in rows[7]["value"]]
    assert curve == [(1, 65, None), (0.5, 30, 50), (0.25, 15, 25), (0.05, 3, 5)]


def test_a_better_gap_that_is_no_surprise_is_equal():
    near, far = {**GOOD, "xlm": 65.5}, {**GOOD, "xlm": 75.0}
    assert summary(results(near), PLANNED)[3]["value"] == 3
    worse = summary(results(far), PLANNED)[3]
    assert (worse["value"], worse["met"]) == (0, False)


def test_missing_cells_are_null_and_not_met():
    for row in summary([], PLANNED):
        assert row["value"] is None
        assert row["met"] is False
    part = [r for r in results(GOOD) if r["name"] != "mlm-trans_inv-2-pos"]
    rows = summary(part, PLANNED)
    assert [row["value"] is None for row in rows] == [
        *(True, False, False, True, False, True, True, False)
    ]
    assert [row["met"] for row in rows[:4]] == [False, False, True, False]


def test_the_report_of_a_whole_grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = parse_options(["--preset", "mini", "--results_dir", "report"])
    steps = plan(options)
    write_report(options, steps, results(GOOD), {})
    text = Path("report/README.md").read_text()
    assert "| POS | trans_inv | mlm | 92.0 ± 0.0 | 26.0 ± 1.0 | -66.0 ± 1.0 |" in text
    assert "| 25% | – | 25.0 | 92.0 | 15.0 | -27.0 |" in text
    assert "POS: alignment P@1 and transfer gap, Spearman's ρ" in text
    assert "n = 12" in text
    for figure in ("transfer", "alignment_vs_transfer", "pretraining_loss", "dictionary_curve"):
        assert f"({figure}.png)" in text
        assert Path(f"report/{figure}.png").exists()
    assert len(json.loads(Path("report/summary.json").read_text())) == 8
    commands = Path("report/commands.sh").read_text().splitlines()
    assert sum(line.startswith("python -m ") for line in commands) == len(steps)
