"""What the study was to show, and what it shows: a row a figure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from scipy import stats

from hf_alignmlm.report import Cell, cells_of, correlations
from study.grid import CURVE_OBJECTIVE, CURVE_TASK, LANGUAGES, MAIN, OBJECTIVES, TASKS
from study.paper import Key

# Two gaps are statistically equal where Welch's t-test gives at least this p.
EQUAL = 0.05

Row = dict[str, Any]
Cells = Mapping[Key, Cell]


def _row(name: str, target: str, value: Any, met: bool, **more: Any) -> Row:
    return {"name": name, "value": value, "target": target, "met": met, **more}


def _at_main(cells: Cells, *objectives: str, task: str = "pos") -> list[Cell]:
    """The cells of these objectives in the main language; none where one is missing."""
    keys = [(objective, MAIN, task) for objective in objectives]
    return [cells[key] for key in keys] if all(key in cells for key in keys) else []


def _fewest_seeds(cells: Sequence[Cell]) -> int:
    return min((len(cell.bz) for cell in cells), default=0)


def _scores(cells: Cells) -> Iterator[Row]:
    for other, least in (("mlm", 35), ("xlm", 20)):
        pair = _at_main(cells, "align-mlm", other)
        value = round(fmean(pair[0].bz) - fmean(pair[1].bz), 2) if pair else None
        name = f"{MAIN}, POS: BZ of align-mlm − BZ of {other}"
        yield _row(name, f">= {least}", value, (value or 0) >= least, seeds=_fewest_seeds(pair))
    ours = _at_main(cells, "align-mlm")
    value = round(fmean(ours[0].bs), 2) if ours else None
    seeds = len(ours[0].bs) if ours else 0
    yield _row(f"{MAIN}, POS: BS of align-mlm", ">= 91", value, (value or 0) >= 91, seeds=seeds)


def _equal_or_best(ours: Cell, others: Sequence[Cell]) -> tuple[bool, str]:
    """Whether no other objective's gap is better, or the best one's is no surprise (Welch's t)."""
    best = max(others, key=lambda cell: fmean(cell.gap))
    here, there = fmean(ours.gap), fmean(best.gap)
    shown = f"{here:.1f} against {best.objective}'s {there:.1f}"
    if here >= there or min(len(ours.gap), len(best.gap)) < 2:
        return here >= there, shown
    p = float(stats.ttest_ind(ours.gap, best.gap, equal_var=False).pvalue)
    return p >= EQUAL, f"{shown} (p = {p:.2f})"


def _gaps(cells: Cells, planned: Counter[Key]) -> Row:
    others = [objective for objective in OBJECTIVES if objective != "align-mlm"]
    groups = {task: _at_main(cells, "align-mlm", *others, task=task) for task in TASKS}
    verdicts = {task: _equal_or_best(g[0], g[1:]) for task, g in groups.items() if g}
    best, whole = sum(holds for holds, _ in verdicts.values()), len(verdicts) == len(TASKS)
    return _row(
        f"{MAIN}: tasks where align-mlm has the best or a statistically equal gap",
        f"{len(TASKS)} of {len(TASKS)}",
        best if whole else None,
        whole and best == len(TASKS),
        detail={task.upper(): text for task, (_, text) in verdicts.items()},
        seeds=min((planned["align-mlm", MAIN, task] for task in verdicts), default=0),
    )


def _other_languages(cells: Cells, planned: Counter[Key]) -> Row:
    reported = [key for key in planned if key[1] != MAIN and key in cells]
    every = len(OBJECTIVES) * len(TASKS) * (len(LANGUAGES) - 1)
    whole = len(reported) == every
    return _row(
        f"{' and '.join(LANGUAGES[1:])}: cells reported beside the paper's",
        f"{every} of {every}",
        len(reported) if whole else None,
        whole,
        seeds=_fewest_seeds([cells[key] for key in reported]),
    )


def _alignment(cells: Cells) -> Iterator[Row]:
    pair = _at_main(cells, "align-mlm", "mlm")
    p1 = {cell.objective: round(fmean(cell.alignment), 2) for cell in pair}
    met = bool(p1) and p1["align-mlm"] >= 95 and p1["mlm"] <= 5
    seeds = min((len(cell.alignment) for cell in pair), default=0)
    target = "align-mlm >= 95, mlm <= 5"
    yield _row(f"{MAIN}: alignment P@1", target, p1 or None, met, seeds=seeds)
    count = len(OBJECTIVES) * len(LANGUAGES)
    rho = correlations(cells.values()).get("pos")
    rho = rho if rho is not None and rho.n == count else None
    yield _row(
        f"POS: Spearman's ρ of alignment P@1 with transfer gap over the {count} cells",
        ">= 0.7",
        round(rho.rho, 3) if rho else None,
        rho is not None and rho.rho >= 0.7,
        interval=[round(rho.low, 2), round(rho.high, 2)] if rho else None,
        seeds=_fewest_seeds([cell for key, cell in cells.items() if key[2] == "pos"]),
    )


def dictionary_curve(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """BZ, BS, gap and P@1 by share of the pairs seen, of the seed that was run with parts."""
    main = (CURVE_OBJECTIVE, MAIN)
    runs = [r for r in results if (r.get("objective"), r.get("language")) == main]
    made = {(r["seed"], r["dictionary_fraction"]): r for r in runs if "train_steps" in r}
    seeds = {seed for seed, share in made if share != 1}
    points = []
    for task in (r for r in runs if r.get("task") == CURVE_TASK):
        model = made.get((task["pretraining_seed"], task["dictionary_fraction"]))
        if model and model["seed"] in seeds:
            names = ("dictionary_fraction", "alignment_p1_seen", "alignment_p1_heldout")
            scores = {name: task[name] for name in ("bz", "bs", "transfer_gap")}
            points.append({name: model.get(name) for name in names} | scores)
    return sorted(points, key=lambda point: -point["dictionary_fraction"])


def _curve(results: Sequence[dict[str, Any]]) -> Row:
    named = {"share": "dictionary_fraction", "bz": "bz", "heldout_p1": "alignment_p1_heldout"}
    curve = [{k: p[name] for k, name in named.items()} for p in dictionary_curve(results)]
    points = [point | {"bz": round(point["bz"], 2)} for point in curve]
    name = f"{MAIN}, POS, align-mlm: BZ and held-out P@1 by share of the dictionary"
    whole = len(points) >= 4
    return _row(name, "4 points", points if whole else None, whole, seeds=int(bool(points)))


def summary(results: Sequence[dict[str, Any]], planned: Counter[Key]) -> list[Row]:
    """What was to be shown: `name`, `value`, `target`, `met`; null and false where runs lack.

    `planned` counts the runs that each cell is to have: a cell counts once it has them all.
    """
    cells = {k: cell for k, cell in cells_of(results).items() if len(cell.bz) >= planned[k] > 0}
    rows = [*_scores(cells), _gaps(cells, planned), _other_languages(cells, planned)]
    return [*rows, *_alignment(cells), _curve(results)]
