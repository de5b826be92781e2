"""Many runs to one answer: tables of BS, BZ and gap, their correlation with alignment, and figures.

`alignmlm report RUNS` reads every `all_results.json` below a folder, or the results files of a
study. What is measured: ALIGN-MLM (arXiv 2211.08547), tables 1 to 3.
"""

import argparse
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas

from hf_alignmlm import figures
from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.figures import ordered, task_title
from hf_alignmlm.figures import save_figure as save_figure
from hf_alignmlm.files import exclusive, write_text
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.results import names_of, objective_of, read_results, tested
from hf_alignmlm.tasks import TASKS

KEY = ("objective", "language", "task")
# What the scores are, of a synthetic pair and of any.
DERIVED = "BS: fine-tuned and tested on the derived language; BZ: fine-tuned on the original"
ANY = "BS: fine-tuned and tested on the second language; BZ: fine-tuned on the first, the source"
MEASURES = {"bs": "BS", "bz": "BZ", "gap": "gap", "alignment": "P@1"}
BOOTSTRAP_SAMPLES = 10_000

Key = tuple[str, str, str]
# Numbers to show beside a cell's own: by the cell's key, then by the title of their column.
Beside = Mapping[Key, Mapping[str, float]]


@dataclass
class Cell:
    """One objective on one language and task: scores of all its runs and seeds, in percent."""

    objective: str
    language: str
    task: str
    bs: list[float] = field(default_factory=list)
    bz: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    alignment: list[float] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """What a cell is looked up by."""
        return self.objective, self.language, self.task


def cells_of(results: Iterable[Mapping[str, Any]]) -> dict[Key, Cell]:
    """The task runs among the results, gathered by objective, language and task."""
    cells: dict[Key, Cell] = {}
    for result in results:
        for language, scores in tested(result) if "task" in result else ():
            cell = Cell(objective_of(result), language, result["task"])
            cell = cells.setdefault(cell.key, cell)
            cell.bz += scores["bz_by_seed"]
            cell.bs += scores.get("bs_by_seed") or []
            cell.gap += scores.get("transfer_gap_by_seed") or []
            if scores.get("alignment_p1") is not None:
                cell.alignment.append(scores["alignment_p1"])
    return cells


def cell_frame(cells: Iterable[Cell], beside: Beside | None = None) -> pandas.DataFrame:
    """A row a cell, by task, language, objective: key, seeds, mean and `_sd` of each measure.

    The columns of `beside` come last. What is not there is NaN, as is the deviation of one value.
    """
    rows = []
    for cell in cells:
        row: dict[str, Any] = dict(zip(KEY, cell.key, strict=True)) | {"seeds": len(cell.bz)}
        for measure in MEASURES:
            values = pandas.Series(getattr(cell, measure), dtype=float)
            row |= {measure: values.mean(), f"{measure}_sd": values.std()}
        rows.append(row | dict((beside or {}).get(cell.key, {})))
    frame = pandas.DataFrame(rows, columns=None if rows else [*KEY, *MEASURES])
    for axis, registry in (("task", TASKS), ("objective", OBJECTIVES)):
        # A categorical column sorts as its categories do, not by the alphabet.
        frame[axis] = pandas.Categorical(frame[axis], ordered(frame[axis], registry))
    return frame.sort_values(["task", "language", "objective"], ignore_index=True)


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ, its two-sided p and a 95 % interval (percentile bootstrap over the cells)."""

    rho: float
    p: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        p = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        return f"ρ = {self.rho:.3f} [{self.low:.2f}, {self.high:.2f}], {p}, n = {self.n}"


def correlation(
    alignment: Sequence[float], gap: Sequence[float], *, seed: int = 0
) -> Correlation | None:
    """Spearman's ρ of alignment with the signed transfer gap; None for fewer than three cells."""
    from scipy import stats

    x, y = np.asarray(alignment, float), np.asarray(gap, float)
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    rho, p = stats.spearmanr(x, y)
    # Not `stats.bootstrap`: it gives NaN where a resample draws equal values only, as some do here.
    draws = np.random.default_rng(seed).integers(0, len(x), (BOOTSTRAP_SAMPLES, len(x)))
    ranks = [stats.rankdata(values[draws], axis=1) for values in (x, y)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    spread = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    usable = spread > 0
    rhos = (centred[0] * centred[1]).sum(1)[usable] / spread[usable]
    low, high = np.percentile(rhos, [2.5, 97.5])
    return Correlation(float(rho), float(p), float(low), float(high), len(x))


def correlations(cells: Iterable[Cell]) -> dict[str, Correlation]:
    """The correlation of each task, over its cells that have alignment and gap."""
    # Sorted, so that resamples, and the interval with them, depend on no names and no order.
    points = cell_frame(cells).dropna(subset=["alignment", "gap"]).sort_values(["alignment", "gap"])
    by_task = {
        task: correlation(group["alignment"], group["gap"])
        for task, group in points.groupby("task", observed=True)
    }
    return {task: found for task, found in by_task.items() if found}


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A GitHub table; all columns but the first are numbers. A `|` in a cell is no border."""
    header = list(header)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    shown = [[" ".join(cell.split()).replace("|", "&#124;") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in shown)


def _cell(value: Any, form: str = "{}") -> str:
    return "–" if value is None or value != value else form.format(value).replace("|", "&#124;")


def _measure(mean: float, deviation: float = np.nan) -> str:
    return _cell(mean, "{:.1f}") + ("" if np.isnan(deviation) else f" ± {deviation:.1f}")


def transfer_table(cells: Iterable[Cell], beside: Beside | None = None) -> str:
    """Task × language × objective, each measure over the seeds; the columns of `beside` last."""
    frame = cell_frame(cells, beside)
    further = list(frame.columns[len(KEY) + 1 + 2 * len(MEASURES) :])
    rows = [
        [
            *(task_title(cell["task"]), cell["language"], cell["objective"]),
            *(_measure(cell[name], cell[f"{name}_sd"]) for name in MEASURES),
            *(str(cell["seeds"]), *(_measure(cell[name]) for name in further)),
        ]
        for cell in frame.to_dict("records")
    ]
    header = ["task", "language", "objective", *MEASURES.values(), "seeds", *further]
    return markdown_table(header, rows)


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("hf_alignmlm", ""), trim_blocks=True, keep_trailing_newline=True
)
TEMPLATES.filters["cell"] = _cell


def sections(
    results: Sequence[Mapping[str, Any]], output: Path, beside: Beside | None = None
) -> list[str]:
    """The report's text, on pre-training and on transfer; figures and CSV go to `output`."""
    trained = [result for result in results if "train_steps" in result]
    cells = list(cells_of(results).values())
    by_task, frame = correlations(cells), cell_frame(cells, beside)
    aligned = frame.dropna(subset=["alignment", "gap"])
    if trained:
        histories = [(objective_of(r), r["language"], r.get("history") or []) for r in trained]
        figures.plot_losses(histories, output / "pretraining_loss.png")
    if cells:
        write_text(output / "transfer.csv", frame.to_csv(index=False, lineterminator="\n"))
        figures.plot_transfer(frame, output / "transfer.png")
    if len(aligned):
        notes = {task: str(by_task.get(task, "too few cells for ρ")) for task in aligned["task"]}
        figures.plot_alignment(aligned, notes, output / "alignment_vs_transfer.png")
    text = TEMPLATES.get_template("report.md.jinja").render(
        trained=trained,
        names=list(dict.fromkeys(name for run in trained for name in names_of(run))),
        cells=cells,
        # Tested on the source language alone.
        alone=[r for r in results if "task" in r and not [*tested(r)]],
        transfer_table=transfer_table(cells, beside),
        meaning=ANY if any("transfer" in result for result in results) else DERIVED,
        correlations=by_task,
        aligned=len(aligned),
        task_title=task_title,
    )
    return [text.rstrip() + "\n"]


def report(folder: str | Path, output_dir: str | Path) -> str:
    """Write tables and figures of all runs below `folder`; the text of `transfer.md`."""
    results = read_results(folder)
    with exclusive(output_dir):
        parts = ["# Transfer report\n", *sections(results, Path(output_dir))]
        if cells := cells_of(results):
            axes = [sorted(set(names)) for names in zip(*cells, strict=True)]
            missing = ["/".join(key) for key in itertools.product(*axes) if key not in cells]
            parts.append(f"Missing cells of this grid: {', '.join(missing) or 'none'}.\n")
        text = "\n".join(parts)
        write_text(Path(output_dir) / "transfer.md", text)
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """`alignmlm report RUNS`."""
    parser = argparse.ArgumentParser(prog="alignmlm report", description="Tables and figures.")
    parser.add_argument("runs", help="a folder of runs")
    parser.add_argument("--output_dir", help="where to write the report; default: the folder")
    arguments = parser.parse_args(argv)
    output = arguments.output_dir or arguments.runs
    with one_line_errors():
        print(report(arguments.runs, output))
    print(f"Report, table and figures in {output}")
