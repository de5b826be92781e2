"""A reproduction's results to its report: what was to be shown, tables, figures, recipe, commands.

It needs the results files alone, no checkpoint.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
from jinja2 import ChainableUndefined, Environment
from matplotlib.figure import Figure

from hf_alignmlm.files import write_json, write_text
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.report import cells_of, save_figure, sections
from hf_alignmlm.sizes import SIZES
from study.grid import CURVE_OBJECTIVE, MAIN, TASKS, Step
from study.paper import beside
from study.summary import EQUAL, dictionary_curve, summary

Results = Sequence[dict[str, Any]]


def _plot_curve(points: Sequence[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(4.2, 3.0))
    axis = figure.subplots()
    lines = {"bz": ("POS BZ", "o-"), "alignment_p1_heldout": ("P@1 of held-out pairs", "s--")}
    for name, (label, style) in lines.items():
        known = [(100 * p["dictionary_fraction"], p[name]) for p in points if p[name] is not None]
        if known:
            colour = OBJECTIVES[CURVE_OBJECTIVE].colour
            axis.plot(*zip(*known, strict=True), style, color=colour, label=label)
    axis.set_xlabel("pairs of the dictionary seen in training, %")
    axis.set_ylabel("%")
    axis.set_ylim(-3, 102)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    save_figure(figure, path)


def _figures(results: Results, curve: Results, output: Path) -> str:
    """Tables and figures of pre-training and transfer; the dictionary curve's figure."""
    if curve:
        _plot_curve(curve, output / "dictionary_curve.png")
    whole = [r for r in results if r["dictionary_fraction"] == 1]
    return "\n".join(sections(whole, output, beside=beside(cells_of(whole)))).rstrip()


def _costs(results: Results) -> pandas.DataFrame:
    """What each kind of step costs: core-minutes of those that ran in one go, hours of all."""
    frame = pandas.DataFrame(results).reindex(columns=["uas", "task", "cpu_minutes", "seconds"])
    kind = frame["task"].astype(object).fillna("pre-training").mask(frame["uas"].notna(), "parser")
    frame = frame.assign(cpu=frame["cpu_minutes"].astype(float), hours=frame["seconds"] / 3600)
    measures = {"mean": ("cpu", "mean"), "most": ("cpu", "max"), "measured": ("cpu", "count")}
    kinds = frame.groupby(kind.rename("kind"), sort=False)
    return kinds.agg(**measures, steps=("hours", "size"), hours=("hours", "sum"))


def write_report(
    options: argparse.Namespace, steps: Sequence[Step], results: Results, failed: dict[str, str]
) -> Path:
    """Write README.md, summary.json, commands.sh, figures and CSV of the results there are."""
    output = Path(options.results_dir)
    planned = Counter(step.cell for step in steps if step.cell and step.dictionary_fraction == 1)
    rows, curve = summary(results, planned), dictionary_curve(results)
    write_json(output / "summary.json", rows)
    missing: dict[str, list[str]] = {}
    names = {r["name"] for r in results}
    for step in (s for s in steps if s.kind != "parsing" and s.name not in names):
        missing.setdefault(step.name.removesuffix(f"-{step.kind}"), []).append(step.kind)
    first = {step.kind: step for step in reversed(steps)}
    words = first["pretraining"].command if "pretraining" in first else ()
    described = (r.get(key, {}) for key in ("machine", "versions") for r in results)
    lines = (", ".join(f"{k} {v}" for k, v in one.items() if v) for one in described)
    shown = {
        **{"options": options, "results": results, "failed": failed, "rows": rows, "curve": curve},
        **{"main": MAIN, "equal": EQUAL, "curve_objective": CURVE_OBJECTIVE, "tasks": TASKS},
        **{"steps": steps, "missing": missing, "machines": filter(None, dict.fromkeys(lines))},
        "size": SIZES[words[words.index("--size") + 1] if "--size" in words else "mini"],
        "recipes": [first[kind] for kind in ("pretraining", *TASKS) if kind in first],
        "use_cpu": not any(r["machine"]["gpus"] for r in results),
        "figures": _figures(results, curve, output) if results else "",
        "costs": _costs(results) if results else None,
    }
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=ChainableUndefined)
    # Folders as variables of the shell, quoted: there may be spaces in their names.
    folder = re.compile(r"\{(\w+)\}(\S*)")
    environment.filters["quoted"] = lambda command: folder.sub(r'"${\1}\2"', command)
    for name in ("commands.sh", "README.md"):
        template = Path(__file__).with_name(f"{name}.jinja").read_text(encoding="utf-8")
        text = environment.from_string(template).render(shown)
        write_text(output / name, text.rstrip() + "\n")
    return output / "README.md"
