"""A reproduction's results to its report: what was to be shown, tables, figures, recipe, commands.

It needs the results files alone, no checkpoint.
"""

from __future__ import annotations

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
from hf_alignmlm.report import cells_of, markdown_table, save_figure, sections
from hf_alignmlm.sizes import SIZES
from study.grid import CURVE_OBJECTIVE, MAIN, TASKS, Step
from study.paper import beside
from study.summary import EQUAL, dictionary_curve, summary

Results = Sequence[dict[str, Any]]
TEMPLATE = Path(__file__).with_name("report.md.jinja")


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


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(v)}" for name, v in value.items())
    if isinstance(value, list):
        return ", ".join(f"{100 * p['share']:g} %: {p['bz']:.1f}" for p in value)
    return "–" if value is None else str(value)


def _listed(options: dict[str, Any]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in options.items())


def _figures(results: Results, output: Path) -> str:
    """Tables and figures of transfer, pre-training and the dictionary curve."""
    whole = [r for r in results if r["dictionary_fraction"] == 1]
    parts = sections(whole, output, beside=beside(cells_of(whole)))
    if curve := dictionary_curve(results):
        _plot_curve(curve, output / "dictionary_curve.png")
        names = ("alignment_p1_seen", "alignment_p1_heldout", "bs", "bz", "transfer_gap")
        rows = [
            [f"{p['dictionary_fraction']:.0%}"]
            + ["–" if p[n] is None else f"{p[n]:.1f}" for n in names]
            for p in curve
        ]
        header = ["pairs seen", "P@1, seen", "P@1, held out", "BS", "BZ", "gap"]
        parts += [f"## Part of the dictionary: {CURVE_OBJECTIVE}, {MAIN}, POS, one seed\n"]
        parts += [markdown_table(header, rows), "![dictionary curve](dictionary_curve.png)\n"]
    return "\n".join(parts).rstrip()


def command_line(step: Step) -> str:
    """A step's command for a shell, `{data}` and `{output}` still in it."""
    return " ".join(["python -m", *(word or "''" for word in step.command)])


def _costs(results: Results) -> pandas.DataFrame:
    """What each kind of step costs: core-minutes of those that ran in one go, hours of all."""
    rows = [
        {
            "kind": "parser" if "uas" in r else r.get("task", "pre-training"),
            "cpu": r.get("cpu_minutes"),
            "hours": r["seconds"] / 3600,
        }
        for r in results
    ]
    kinds = pandas.DataFrame(rows).astype({"cpu": float}).groupby("kind", sort=False)
    measures = {"mean": ("cpu", "mean"), "most": ("cpu", "max"), "measured": ("cpu", "count")}
    return kinds.agg(**measures, steps=("hours", "size"), hours=("hours", "sum"))


def _script(steps: Sequence[Step], output_dir: str, use_cpu: bool) -> str:
    """Every command, as a shell script."""
    lines = [
        "#!/usr/bin/env bash",
        "# Every command of this reproduction, in order: what python -m study runs.",
        "set -euo pipefail",
        f'data="${{DATA:-data}}" output="${{RUNS:-{output_dir}}}"',
        *(["export OMP_NUM_THREADS=1"] if use_cpu else []),
    ]
    for step in steps:
        cpu = " --use_cpu" if use_cpu and step.command[0].startswith("run_") else ""
        # Quoted, for a folder with a space in its name.
        lines.append(re.sub(r"\{(\w+)\}(\S*)", r'"${\1}\2"', command_line(step)) + cpu)
    return "\n".join(lines) + "\n"


def _readme(
    options: argparse.Namespace, steps: Sequence[Step], results: Results, **more: Any
) -> str:
    """The text of the report: report.md.jinja, filled in."""
    missing: dict[str, list[str]] = {}
    names = {r["name"] for r in results}
    for step in (s for s in steps if s.kind != "parsing" and s.name not in names):
        missing.setdefault(step.name.removesuffix(f"-{step.kind}"), []).append(step.kind)
    first = {step.kind: step for step in reversed(steps)}
    words = list(first["pretraining"].command) if "pretraining" in first else []
    size = SIZES[words[words.index("--size") + 1] if "--size" in words else "mini"]
    described = (r.get(key, {}) for key in ("machine", "versions") for r in results)
    lines = (", ".join(f"{k} {v}" for k, v in one.items() if v) for one in described)
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=ChainableUndefined)
    environment.filters |= {"value": _value, "listed": _listed}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        **more,
        **{"preset": options.preset, "command": options.command, "results": results},
        **{"main": MAIN, "equal": EQUAL, "missing": missing, "size": size, "tasks": TASKS},
        recipes=[command_line(first[k]) for k in ("pretraining", *TASKS) if k in first],
        machines=[line for line in dict.fromkeys(lines) if line],
        costs=_costs(results) if results else None,
    )


def write_report(
    options: argparse.Namespace, steps: Sequence[Step], results: Results, failed: dict[str, str]
) -> Path:
    """Write README.md, summary.json, commands.sh, figures and CSV of the results there are."""
    output = Path(options.results_dir)
    planned = Counter(step.cell for step in steps if step.cell and step.dictionary_fraction == 1)
    rows = summary(results, planned)
    write_json(output / "summary.json", rows)
    use_cpu = not any(r["machine"]["gpus"] for r in results)
    write_text(output / "commands.sh", _script(steps, options.output_dir, use_cpu))
    figures = _figures(results, output) if results else ""
    text = _readme(options, steps, results, rows=rows, failed=failed, figures=figures)
    write_text(output / "README.md", text.rstrip() + "\n")
    return output / "README.md"
