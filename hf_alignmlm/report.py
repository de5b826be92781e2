"""Many runs to one answer: tables of BS, BZ and gap, the correlation with alignment, and figures.

    python -m hf_alignmlm.transfer runs/ --output_dir report/

reads every `all_results.json` below a folder, or the results files of a reproduction. Sources:
ALIGN-MLM (arXiv 2211.08547), tables 1 to 3.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats

from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.files import read_json, write_bytes, write_text
from hf_alignmlm.objectives.base import OBJECTIVES
from hf_alignmlm.runs import RESULTS_FILE

matplotlib.use("Agg")


TASK_NAMES = {"pos": "POS", "ner": "NER", "nli": "NLI"}


# A colour an objective, told apart by the colour-blind (Okabe and Ito's palette).
COLOURS = {"mlm": "#999999", "xlm": "#E69F00", "dict-mlm": "#56B4E9", "align-mlm": "#009E73"}


LINES = ("-", "--", ":", "-.")


BOOTSTRAP_SAMPLES = 10_000


DICT_MLM_NOTE = (
    "Perplexity is that of the objective's own task: dict-mlm sees the translation of some of the "
    "words that it is to predict, so its own is lower and not to be compared with the others'.\n"
)


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
    def key(self) -> tuple[str, str, str]:
        """What a cell is looked up by."""
        return self.objective, self.language, self.task


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """Every results file below a folder, with its place as `folder`; none is a `ValueError`.

    A folder of a reproduction's results has them as `results/NAME.json`, without the runs.
    """
    root = Path(folder)
    paths = sorted(root.rglob(RESULTS_FILE)) or sorted(root.rglob("results/*.json"))
    if not paths:
        raise ValueError(f"{folder} has no {RESULTS_FILE} below it: name a folder of runs")
    results = {path: read_json(path) | {"folder": path.parent} for path in paths}
    for path, result in results.items():
        # A task run was made with the dictionary of its checkpoint, if that lies here too.
        model = result.get("arguments", {}).get("model_name_or_path")
        beside = results.get(path.parent.with_name(Path(model).name) / path.name) if model else None
        made = (beside or result).get("arguments", {}).get("dictionary_fraction", 1.0)
        result.setdefault("dictionary_fraction", made)
    return list(results.values())


def cells_of(results: Iterable[dict[str, Any]]) -> dict[tuple[str, str, str], Cell]:
    """The task runs among the results, gathered by objective, language and task."""
    cells: dict[tuple[str, str, str], Cell] = {}
    for result in results:
        if result.get("task") not in TASK_NAMES:
            continue
        objective, share = result.get("objective") or "other", result.get("dictionary_fraction", 1)
        # Another dictionary is another cell, not another seed.
        label = objective if share == 1 else f"{objective}, {share:.0%} of the pairs"
        cell = Cell(label, result["language"], result["task"])
        cell = cells.setdefault(cell.key, cell)
        cell.bz += result["bz_by_seed"]
        cell.bs += result.get("bs_by_seed") or []
        cell.gap += result.get("transfer_gap_by_seed") or []
        if result.get("alignment_p1") is not None:
            cell.alignment.append(result["alignment_p1"])
    return cells


def missing_cells(cells: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The cells that the grid of these objectives, languages and tasks still lacks."""
    present = set(cells)
    axes = [sorted({key[axis] for key in present}) for axis in range(3)]
    return [
        (o, lang, t)
        for o in axes[0]
        for lang in axes[1]
        for t in axes[2]
        if (o, lang, t) not in present
    ]


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
    x, y = np.asarray(alignment, float), np.asarray(gap, float)
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    rho, p = stats.spearmanr(x, y)
    draws = np.random.default_rng(seed).integers(0, len(x), (BOOTSTRAP_SAMPLES, len(x)))
    ranks = [stats.rankdata(values[draws], axis=1) for values in (x, y)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    spread = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    # A resample of one cell alone has no correlation.
    usable = spread > 0
    rhos = (centred[0] * centred[1]).sum(1)[usable] / spread[usable]
    low, high = np.percentile(rhos, [2.5, 97.5])
    return Correlation(float(rho), float(p), float(low), float(high), len(x))


def correlations(cells: Iterable[Cell]) -> dict[str, Correlation]:
    """The correlation of each task, over its cells that have alignment and gap."""
    found = {}
    for task in TASK_NAMES:
        # Sorted: the resamples, and the interval with them, must not hang on the cells' order.
        points = sorted(
            (statistics.fmean(c.alignment), statistics.fmean(c.gap))
            for c in cells
            if c.task == task and c.alignment and c.gap
        )
        result = correlation(*zip(*points, strict=True)) if points else None
        if result is not None:
            found[task] = result
    return found


def _mean(values: Sequence[float]) -> str:
    """Mean ± standard deviation; the deviation only where there are two values."""
    if not values:
        return "–"
    text = f"{statistics.fmean(values):.1f}"
    return f"{text} ± {statistics.stdev(values):.1f}" if len(values) > 1 else text


def _ordered(cells: Iterable[Cell]) -> list[Cell]:
    rank = {name: i for i, name in enumerate(OBJECTIVES)}
    return sorted(
        cells, key=lambda c: (list(TASK_NAMES).index(c.task), c.language, rank.get(c.objective, 9))
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A GitHub table; all columns but the first are numbers."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# Reference numbers of a cell, by the names of the columns that show them.
Beside = Mapping[tuple[str, str, str], Mapping[str, float]]


def transfer_table(cells: Iterable[Cell], beside: Beside | None = None) -> str:
    """Objective × language × task; `beside` has further columns, such as another study's."""
    further = list(dict.fromkeys(name for row in (beside or {}).values() for name in row))
    rows = []
    for c in _ordered(cells):
        theirs = (beside or {}).get(c.key, {})
        shown = [f"{theirs[name]:.1f}" if name in theirs else "–" for name in further]
        ours = [_mean(c.bs), _mean(c.bz), _mean(c.gap), _mean(c.alignment)]
        rows.append([TASK_NAMES[c.task], c.language, c.objective, *ours, str(len(c.bz)), *shown])
    header = ["task", "language", "objective", "BS", "BZ", "gap", "P@1", "seeds"]
    return markdown_table([*header, *further], rows)


def pretraining_table(results: Iterable[dict[str, Any]]) -> str:
    """Alignment and perplexity of each pre-training run."""
    rows = []
    for result in results:
        if "train_steps" not in result:
            continue
        numbers = [
            result.get(name)
            for name in (
                "alignment_p1",
                "alignment_p1_heldout",
                "eval_original_perplexity",
                "eval_derived_perplexity",
            )
        ]
        shown = ["–" if n is None else f"{n:.1f}" for n in numbers]
        share = f"{result.get('dictionary_fraction', 1):.0%}"
        made = [str(result.get("seed", "–")), share, f"{result['train_steps']:,}"]
        rows.append([result["objective"], result["language"], *made, *shown])
    header = [
        "objective",
        "language",
        "seed",
        "dictionary",
        "steps",
        "alignment P@1",
        "held out",
        "perplexity, original",
        "perplexity, derived",
    ]
    return markdown_table(header, rows)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, bbox_inches="tight")
    write_bytes(path, buffer.getvalue())
    pyplot.close(figure)


def plot_transfer(cells: Sequence[Cell], path: Path) -> None:
    """Bars of BS (pale) and BZ (full) per task, language and objective."""
    tasks = [t for t in TASK_NAMES if any(c.task == t for c in cells)]
    languages = sorted({c.language for c in cells})
    objectives = [o for o in [*OBJECTIVES, "other"] if any(c.objective == o for c in cells)]
    figure, axes = pyplot.subplots(
        1, len(tasks), figsize=(3.6 * len(tasks) + 0.4, 3.2), squeeze=False
    )
    width = 0.8 / len(objectives)
    for axis, task in zip(axes[0], tasks, strict=True):
        for cell in (c for c in cells if c.task == task):
            place = languages.index(cell.language) - 0.4
            place += width * (objectives.index(cell.objective) + 0.5)
            colour = COLOURS.get(cell.objective, "#CC79A7")
            if cell.bs:
                axis.bar(place, statistics.fmean(cell.bs), width * 0.9, color=colour, alpha=0.35)
            spread = statistics.stdev(cell.bz) if len(cell.bz) > 1 else None
            axis.bar(place, statistics.fmean(cell.bz), width * 0.6, color=colour, yerr=spread)
        axis.set_xticks(range(len(languages)), languages)
        axis.set_ylim(0, 100)
        axis.set_title(TASK_NAMES[task])
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("score, %")
    handles = [Patch(color=COLOURS.get(o, "#CC79A7"), label=o) for o in objectives]
    handles += [Patch(color="#444444", alpha=0.35, label="BS: supervised")]
    handles += [Patch(color="#444444", label="BZ: zero-shot")]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.subplots_adjust(bottom=0.2)
    save_figure(figure, path)


def plot_alignment(cells: Sequence[Cell], path: Path) -> None:
    """Transfer gap against alignment, a panel a task, with Spearman's ρ and its interval."""
    tasks = [t for t in TASK_NAMES if any(c.task == t and c.alignment and c.gap for c in cells)]
    found = correlations(cells)
    figure, axes = pyplot.subplots(
        1, len(tasks), figsize=(3.6 * len(tasks) + 0.4, 3.2), squeeze=False
    )
    markers = dict(zip(sorted({c.language for c in cells}), "osD^vP*X", strict=False))
    for axis, task in zip(axes[0], tasks, strict=True):
        for cell in (c for c in cells if c.task == task and c.alignment and c.gap):
            axis.scatter(
                statistics.fmean(cell.alignment),
                statistics.fmean(cell.gap),
                color=COLOURS.get(cell.objective, "#CC79A7"),
                marker=markers.get(cell.language, "o"),
                s=45,
                edgecolor="white",
                linewidth=0.6,
            )
        axis.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
        axis.set_xlim(-5, 105)
        axis.set_xlabel("alignment P@1, %")
        axis.set_title(f"{TASK_NAMES[task]}\n{found.get(task, 'too few cells for ρ')}", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("transfer gap BZ − BS, points")
    present = [o for o in OBJECTIVES if any(c.objective == o for c in cells)]
    handles: list[Artist] = [Patch(color=COLOURS[o], label=o) for o in present]
    handles += [
        Line2D([], [], linestyle="", color="#444444", marker=marker, label=language)
        for language, marker in markers.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.subplots_adjust(bottom=0.26, wspace=0.28)
    save_figure(figure, path)


def plot_losses(results: Iterable[dict[str, Any]], path: Path) -> None:
    """Both parts of the loss over the steps of each pre-training run."""
    figure, axes = pyplot.subplots(1, 2, figsize=(7.6, 3.0))
    styles: dict[str, Any] = {}
    for result in results:
        state = Path(result["folder"]) / "trainer_state.json"
        history = result.get("history")
        if "train_steps" not in result or not (history or state.exists()):
            continue
        history = history or read_json(state)["log_history"]
        for axis, part in zip(axes, ("mlm_loss", "alignment_loss"), strict=True):
            points = [(entry["step"], entry[part]) for entry in history if part in entry]
            if points:
                # A colour an objective, a style a language; seeds look alike.
                style = styles.setdefault(result["language"], LINES[len(styles) % len(LINES)])
                colour = COLOURS[result["objective"]]
                axis.plot(*zip(*points, strict=True), style, color=colour, linewidth=1)
    for axis, title in zip(
        axes, ("masked-LM loss, nats", "alignment loss, −mean cosine"), strict=True
    ):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
    drawn = {line.get_color() for line in axes[0].get_lines()}
    handles: list[Artist] = [Patch(color=c, label=o) for o, c in COLOURS.items() if c in drawn]
    handles += [
        Line2D([], [], linestyle=style, color="#444444", label=language)
        for language, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.subplots_adjust(bottom=0.32, wspace=0.25)
    save_figure(figure, path)


def report(folder: str | Path, output_dir: str | Path) -> str:
    """Write tables and figures of all runs below `folder`; the text of `transfer.md`."""
    results = read_results(folder)
    parts = ["# Transfer report\n", *sections(results, Path(output_dir))]
    if cells := cells_of(results):
        listed = ", ".join(map("/".join, missing_cells(cells))) or "none"
        parts.append(f"Missing cells of this grid: {listed}.\n")
    text = "\n".join(parts)
    write_text(Path(output_dir) / "transfer.md", text)
    return text


def sections(
    results: Sequence[dict[str, Any]], output: Path, beside: Beside | None = None
) -> list[str]:
    """The report's paragraphs, on pre-training and on transfer; figures and the CSV to `output`."""
    cells = cells_of(results)
    parts = []
    if any("train_steps" in result for result in results):
        plot_losses(results, output / "pretraining_loss.png")
        parts += [
            "## Pre-training\n",
            pretraining_table(results),
            *([DICT_MLM_NOTE] if any(r.get("objective") == "dict-mlm" for r in results) else []),
            "![loss](pretraining_loss.png)\n",
        ]
    if cells:
        ordered = _ordered(cells.values())
        parts += ["## Transfer\n", transfer_table(ordered, beside)]
        parts += [
            "BS: fine-tuned and tested on the derived language; BZ: fine-tuned on the original; "
            "gap = BZ − BS, 0 is perfect transfer; mean ± standard deviation over seeds.\n"
        ]
        plot_transfer(ordered, output / "transfer.png")
        parts += ["![BS and BZ](transfer.png)\n"]
        for task, found in correlations(ordered).items():
            parts += [f"- {TASK_NAMES[task]}: alignment P@1 and transfer gap, Spearman's {found}"]
        if any(cell.alignment and cell.gap for cell in ordered):
            plot_alignment(ordered, output / "alignment_vs_transfer.png")
            parts += ["\n![alignment and transfer](alignment_vs_transfer.png)\n"]
        _write_csv(ordered, output / "transfer.csv", beside or {})
    return parts


def _write_csv(cells: Sequence[Cell], path: Path, beside: Beside) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    measures = ("bs", "bz", "gap", "alignment")
    further = list(dict.fromkeys(name for row in beside.values() for name in row))
    names = [name for m in measures for name in (m, f"{m}_sd")]
    writer.writerow(["objective", "language", "task", "seeds", *names, *further])
    for cell in cells:
        row: list[Any] = [*cell.key, len(cell.bz)]
        for measure in measures:
            values = getattr(cell, measure)
            row.append(statistics.fmean(values) if values else "")
            row.append(statistics.stdev(values) if len(values) > 1 else "")
        theirs = beside.get(cell.key, {})
        writer.writerow([*row, *(theirs.get(name, "") for name in further)])
    write_text(path, buffer.getvalue())


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m hf_alignmlm.transfer RUNS`."""
    parser = argparse.ArgumentParser(prog="python -m hf_alignmlm.transfer", description=__doc__)
    parser.add_argument("runs", help="a folder of runs")
    parser.add_argument("--output_dir", help="where to write the report; default: the folder")
    arguments = parser.parse_args(argv)
    output = arguments.output_dir or arguments.runs
    with one_line_errors():
        print(report(arguments.runs, output))
    print(f"Report, table and figures in {output}")


if __name__ == "__main__":
    main()
