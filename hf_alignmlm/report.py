"""Many runs to one answer: tables of BS, BZ and gap, their correlation with alignment, and figures.

`alignmlm report RUNS` reads every `all_results.json` below a folder, or the results files of a
study. What is measured: ALIGN-MLM (arXiv 2211.08547), tables 1 to 3.
"""

import argparse
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas
from transformers.utils import logging

from hf_alignmlm import figures
from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.figures import is_number, ordered, task_title
from hf_alignmlm.figures import save_figure as save_figure
from hf_alignmlm.files import exclusive, read_record, write_text
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.runs import RESULTS_FILE
from hf_alignmlm.tasks import TASKS

logger = logging.get_logger(__name__)

KEY = ("objective", "language", "task")
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


NUMBERS = (
    *("seed", "dictionary_fraction", "train_steps", "alignment_p1", "alignment_p1_heldout"),
    *("eval_original_perplexity", "eval_derived_perplexity", "source", "bz", "bs", "transfer_gap"),
)
LISTS = ("seeds", "bz_by_seed", "bs_by_seed", "transfer_gap_by_seed")
NAMES = ("objective", "language", "task", "metric", "model_name_or_path")
# The entries of a results file, its arguments among them, that reports and cards use.
ENTRIES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(NUMBERS, is_number),
    **dict.fromkeys(LISTS, lambda value: isinstance(value, list) and all(map(is_number, value))),
    **dict.fromkeys(NAMES, lambda value: isinstance(value, str) and value.isprintable()),
    "arguments": lambda value: isinstance(value, dict),
    "history": lambda value: (
        isinstance(value, list)
        and all(isinstance(entry, dict) and is_number(entry.get("step")) for entry in value)
    ),
}


def read_result(path: Path) -> dict[str, Any]:
    """The results of a run, with what it logged as `history`; `ValueError` for another file."""
    result, state = read_record(path), path.with_name("trainer_state.json")
    if not result.keys() & {"task", "train_steps"}:
        raise ValueError(f"{path} is of no run of ours")
    if "train_steps" in result and "history" not in result and state.exists():
        result["history"] = read_record(state).get("log_history")
    arguments = result["arguments"] = result.get("arguments") or {}
    entries = {**arguments, **result} if isinstance(arguments, dict) else result
    needed = ("language", "bz_by_seed" if "task" in result else "train_steps")
    for name, fits in ENTRIES.items():
        value = entries.get(name)
        if name in needed if value is None else not fits(value):
            raise ValueError(f"{path} is damaged: its {name} is {value!r:.60}")
    return result


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """The results of all runs below a folder, or in a study's `results`; `ValueError` for none."""
    root = Path(folder)
    paths = sorted(root.rglob(RESULTS_FILE)) or sorted(root.rglob("results/*.json"))
    results = {}
    for path in paths:
        try:
            results[path] = read_result(path)
        except (ValueError, OSError) as error:
            logger.warning("Left out: %s", error)
    if not results:
        raise ValueError(f"{folder} has no {RESULTS_FILE} of a run below it: name a folder of runs")
    for path, result in results.items():
        # A task run used the dictionary of its checkpoint, whose results may lie here too.
        model = result["arguments"].get("model_name_or_path")
        checkpoint = path.parent.parent / Path(model).name / path.name if model else path
        entries = results.get(checkpoint, result)["arguments"] | result
        share = entries.get("dictionary_fraction")
        result["dictionary_fraction"] = 1.0 if share is None else share
    return list(results.values())


def _objective(result: Mapping[str, Any]) -> str:
    """The objective; with part of the dictionary it is another one, not another seed."""
    objective, share = result.get("objective") or "other", result.get("dictionary_fraction", 1)
    return objective if share == 1 else f"{objective}, {share:.0%} of the pairs"


def cells_of(results: Iterable[Mapping[str, Any]]) -> dict[Key, Cell]:
    """The task runs among the results, gathered by objective, language and task."""
    cells: dict[Key, Cell] = {}
    for result in results:
        if "task" in result:
            cell = Cell(_objective(result), result["language"], result["task"])
            cell = cells.setdefault(cell.key, cell)
            cell.bz += result["bz_by_seed"]
            cell.bs += result.get("bs_by_seed") or []
            cell.gap += result.get("transfer_gap_by_seed") or []
            if result.get("alignment_p1") is not None:
                cell.alignment.append(result["alignment_p1"])
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
        histories = [(_objective(r), r["language"], r.get("history") or []) for r in trained]
        figures.plot_losses(histories, output / "pretraining_loss.png")
    if cells:
        write_text(output / "transfer.csv", frame.to_csv(index=False, lineterminator="\n"))
        figures.plot_transfer(frame, output / "transfer.png")
    if len(aligned):
        notes = {task: str(by_task.get(task, "too few cells for ρ")) for task in aligned["task"]}
        figures.plot_alignment(aligned, notes, output / "alignment_vs_transfer.png")
    text = TEMPLATES.get_template("report.md.jinja").render(
        trained=trained,
        cells=cells,
        transfer_table=transfer_table(cells, beside),
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
