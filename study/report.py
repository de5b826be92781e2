"""A reproduction's results to its report: what was to be shown, tables, figures, recipe, commands.

It needs the results files alone, no checkpoint.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from hf_alignmlm.files import write_json, write_text
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.report import cells_of, markdown_table, save_figure, sections
from hf_alignmlm.sizes import SIZES
from study.grid import CURVE_OBJECTIVE, MAIN, TASKS, Step
from study.paper import beside
from study.summary import EQUAL, Row, dictionary_curve, summary

Results = Sequence[dict[str, Any]]
MET = {True: "yes", False: "**no**"}


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


def _shown(rows: Sequence[Row]) -> list[str]:
    """The table of what was to be shown, and what stands behind its rows."""
    lines = [
        (row["name"], row["target"], _value(row["value"]), MET[row["met"]], str(row["seeds"]))
        for row in rows
    ]
    header = ["figure", "target", "value", "met", "seeds"]
    parts = ["## What was to be shown\n", markdown_table(header, lines)]
    for row in rows:
        if row.get("interval"):
            low, high = row["interval"]
            parts.append(f"95 % interval of ρ: {low:.2f} to {high:.2f}.\n")
        if row.get("detail"):
            listed = "; ".join(f"{task} {text}" for task, text in row["detail"].items())
            parts.append(
                f"Gaps at {MAIN}, align-mlm's and the best of the others: {listed}. Statistically "
                f"equal: Welch's t over pre-training seeds, p ≥ {EQUAL}.\n"
            )
    return parts


def _figures(results: Results, output: Path) -> list[str]:
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
    return parts


def _missing(steps: Sequence[Step], results: Results, failed: dict[str, str]) -> list[str]:
    """The cells that lack results, with the kinds of their steps, and why."""
    names = {r["name"] for r in results}
    missing: dict[str, list[str]] = {}
    for step in (s for s in steps if s.kind != "parsing" and s.name not in names):
        missing.setdefault(step.name.removesuffix(f"-{step.kind}"), []).append(step.kind)
    cells = "; ".join(f"{cell} ({', '.join(kinds)})" for cell, kinds in missing.items())
    reasons = (f"- {name}: {reason}" for name, reason in failed.items())
    return [f"## Missing\n\n{cells or 'No step of the grid.'}\n", *reasons]


def command_line(step: Step) -> str:
    """A step's command for a shell, `{data}` and `{output}` still in it."""
    return " ".join(["python -m", *(word or "''" for word in step.command)])


def _recipe(steps: Sequence[Step]) -> list[str]:
    """One command of each kind of training, and the defaults that it leaves out."""
    first = {step.kind: step for step in reversed(steps)}
    shown = [command_line(first[kind]) for kind in ("pretraining", *TASKS) if kind in first]
    words = list(first["pretraining"].command) if "pretraining" in first else []
    size = SIZES[words[words.index("--size") + 1] if "--size" in words else "mini"]
    model, training, finetuning = (
        ", ".join(f"`{name}` {value}" for name, value in options.items())
        for options in (size.model, size.training, size.finetuning)
    )
    return [
        "\n## Recipe\n",
        "One for all objectives; how it was chosen: docs/recipe.md. `{data}` and `{output}` stand "
        "for the folders of data and runs; one command of each kind:\n",
        "```\n" + "\n".join(shown) + "\n```\n",
        "What these leave out is the size's default:\n",
        f"- model: {model}; vocabulary {size.vocab_size:,} a language, sequences of "
        f"{size.max_seq_length}",
        f"- pre-training: {training}",
        f"- fine-tuning: {finetuning}\n",
    ]


def _costs(results: Results) -> str:
    """What a cell costs: core-minutes of the steps that ran in one go, and the hours of all."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for r in results:
        kind = "parser" if "uas" in r else r["task"].upper() if "task" in r else "pre-training"
        kinds.setdefault(kind, []).append(r)
    rows, cell = [], 0.0
    for kind, steps in kinds.items():
        cpu = [r["cpu_minutes"] for r in steps if r.get("cpu_minutes")]
        shown = [f"{fmean(cpu):.1f}", f"{max(cpu):.1f}"] if cpu else ["–", "–"]
        cell += fmean(cpu) if cpu and kind != "parser" else 0
        hours = sum(r["seconds"] for r in steps) / 3600
        rows.append([kind, *shown, str(len(cpu)), str(len(steps)), f"{hours:.1f}"])
    hours = sum(r["seconds"] for r in results) / 3600
    rows.append(["a cell of all these", f"{cell:.1f}", "", "", str(len(results)), f"{hours:.1f}"])
    header = ["step", "core-minutes, mean", "most", "of so many", "steps", "hours of a job, in all"]
    return markdown_table(header, rows)


def _machine(results: Results) -> list[str]:
    """The machines and versions that the results came from, and what they cost."""
    parts = ["## Machine\n"]
    for key in ("machine", "versions"):
        listed = (", ".join(f"{k} {v}" for k, v in r.get(key, {}).items() if v) for r in results)
        parts += [f"- {line}" for line in dict.fromkeys(listed) if line]
    return [*parts, "", _costs(results)]


def _script(steps: Sequence[Step], output_dir: str, use_cpu: bool) -> str:
    """Every command, as a shell script."""
    lines = [
        "#!/usr/bin/env bash",
        "# Every command of this reproduction, in order: what python -m study runs.",
        "set -euo pipefail",
        f"data=${{DATA:-data}} output=${{RUNS:-{output_dir}}}",
        *(["export OMP_NUM_THREADS=1"] if use_cpu else []),
    ]
    for step in steps:
        cpu = " --use_cpu" if use_cpu and step.command[0].startswith("run_") else ""
        lines.append(command_line(step).replace("{", "${") + cpu)
    return "\n".join(lines) + "\n"


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
    parts = [
        f"# Reproduction: `--preset {options.preset}`\n",
        "Written by the command below from the files in [results](results); `summary.json` has the "
        "first table, [commands.sh](commands.sh) every command.\n",
        f"```\npython -m study {options.command}\n```\n",
        *_shown(rows),
        *(_figures(results, output) if results else []),
        *_missing(steps, results, failed),
        *_recipe(steps),
        *(
            f"The parser that gives the text its trees: UAS {r['uas']:.1f}, LAS {r['las']:.1f} on "
            f"{r['scored_on']}, from gold words.\n"
            for r in results
            if "uas" in r
        ),
        *(_machine(results) if results else []),
    ]
    write_text(output / "README.md", "\n".join(parts))
    return output / "README.md"
