"""The report's figures: bars of transfer, transfer against alignment, the losses of pre-training.

They are drawn without pyplot, so that a user's session keeps its figures and its backend.
"""

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame

from hf_alignmlm.files import write_bytes
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.tasks import TASKS

# For objectives that no registry knows: what the registered ones leave of Okabe and Ito's palette.
SPARE_COLOURS = ("#CC79A7", "#0072B2", "#D55E00", "#F0E442")
MARKERS, LINES = "osD^vP*X", ("-", "--", ":", "-.")
LOSSES = {"mlm_loss": "masked-LM loss, nats", "alignment_loss": "alignment loss, −mean cosine"}
THICK = {"linewidth": 8, "solid_capstyle": "butt"}


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure of matplotlib as PNG, whole or not at all."""
    buffer = io.BytesIO()
    # A `$` in a name is no formula.
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)
    figure.savefig(buffer, format="png", dpi=160, bbox_inches="tight")
    write_bytes(path, buffer.getvalue())


def is_number(value: Any) -> bool:
    """Whether a value of a file is a number to show: neither NaN, nor infinite, nor true."""
    return type(value) in (int, float) and abs(value) < 1e300


def task_title(task: str) -> str:
    """A task's title, as POS; its name where its module is not imported."""
    return getattr(TASKS.get(task), "title", task)


def ordered(names: Iterable[str], registry: Iterable[str]) -> list[str]:
    """The distinct names as they are registered, then the unknown ones by name."""
    names, known = set(names), list(registry)
    return [name for name in known if name in names] + sorted(names.difference(known))


def _colours(objectives: Iterable[str]) -> dict[str, str]:
    spare = itertools.cycle(SPARE_COLOURS)
    names = ordered(objectives, OBJECTIVES)
    return {name: getattr(OBJECTIVES.get(name), "colour", "") or next(spare) for name in names}


def _panels(
    titles: Sequence[str], colours: Mapping[str, str], marks: Mapping[str, dict[str, Any]]
) -> tuple[Any, Any]:
    """A figure and its panels, over a legend of the colours and of grey marks."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure = Figure(figsize=(3.2 * len(titles), 3.6), layout="constrained")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [
        *(Patch(color=colour, label=label) for label, colour in colours.items()),
        *(Line2D([], [], color="#444444", label=label, **mark) for label, mark in marks.items()),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure, axes


def plot_transfer(cells: DataFrame, path: str | Path) -> None:
    """Bars of BS (pale) and BZ (full) by task, language and objective; `cells` by `cell_frame`."""
    tasks, languages = list(cells["task"].unique()), sorted(cells["language"].unique())
    colours = _colours(cells["objective"])
    places, width = list(colours), 0.8 / len(colours)
    marks = {"BS: supervised": {"alpha": 0.35, **THICK}, "BZ: zero-shot": THICK}
    figure, axes = _panels([task_title(task) for task in tasks], colours, marks)
    for cell in cells.to_dict("records"):
        axis, colour = axes[tasks.index(cell["task"])], colours[cell["objective"]]
        place = languages.index(cell["language"]) - 0.4
        place += width * (places.index(cell["objective"]) + 0.5)
        axis.bar(place, cell["bs"], width * 0.9, color=(colour, 0.35))
        axis.bar(place, cell["bz"], width * 0.6, color=colour, yerr=cell["bz_sd"])
    letters = len("".join(languages))
    slope: dict[str, Any] = {"rotation": 20 if letters > 16 else 0}
    if letters > 60:  # as "en-fr of en-fr-hi", so that none lies over the next
        slope = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    for axis in axes:
        axis.set_xticks(range(len(languages)), languages, **slope)
        axis.set(xlim=(-0.5, len(languages) - 0.5), ylim=(0, 100))
    axes[0].set_ylabel("score, %")
    save_figure(figure, path)


def plot_alignment(cells: DataFrame, notes: Mapping[str, str], path: str | Path) -> None:
    """Transfer gap against alignment, a panel a task, under the task's note on its correlation."""
    tasks, colours = list(cells["task"].unique()), _colours(cells["objective"])
    styles = dict(zip(sorted(cells["language"].unique()), itertools.cycle(MARKERS), strict=False))
    titles = [f"{task_title(task)}\n{notes[task]}".replace("], ", "]\n") for task in tasks]
    marks = {name: {"marker": marker, "linestyle": ""} for name, marker in styles.items()}
    figure, axes = _panels(titles, colours, marks)
    for cell in cells.to_dict("records"):
        axis, colour = axes[tasks.index(cell["task"])], colours[cell["objective"]]
        style = styles[cell["language"]]
        axis.plot(cell["alignment"], cell["gap"], style, color=colour, ms=7, mec="white")
    for axis in axes:
        axis.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
        axis.set(xlim=(-5, 105), xlabel="alignment P@1, %")
    axes[0].set_ylabel("transfer gap BZ − BS, points")
    save_figure(figure, path)


def plot_losses(histories: Sequence[tuple[str, str, list[Any]]], path: str | Path) -> None:
    """Both parts of the loss over the steps of runs: objective, language and what each logged."""
    colours = _colours(objective for objective, _, _ in histories)
    languages = dict.fromkeys(language for _, language, _ in histories)
    styles = dict(zip(languages, itertools.cycle(LINES), strict=False))
    marks = {name: {"linestyle": style} for name, style in styles.items()}
    figure, axes = _panels(list(LOSSES.values()), colours, marks)
    for axis, part in zip(axes, LOSSES, strict=True):
        for objective, language, history in histories:
            logged = [entry for entry in history if is_number(entry.get(part))]
            steps, losses = [e["step"] for e in logged], [e[part] for e in logged]
            axis.plot(steps, losses, styles[language], color=colours[objective], linewidth=1)
        axis.set_xlabel("step")
    save_figure(figure, path)
