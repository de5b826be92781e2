"""A reproduction's results to its report: what was to be shown, tables, figures, recipe, commands.

Called by `hf_alignmlm.reproduce`; it needs the results files alone, no checkpoint.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from scipy import stats

from hf_alignmlm.files import write_json, write_text
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.report import (
    Cell,
    cells_of,
    correlations,
    markdown_table,
    save_figure,
    sections,
)
from hf_alignmlm.sizes import SIZES
from hf_alignmlm.tasks import TASKS

COLOURS = {name: objective.colour for name, objective in OBJECTIVES.items()}
TASK_NAMES = {name: task.title for name, task in TASKS.items()}

MAIN = "trans_inv"


EQUAL = 0.05


def dictionary_curve(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """BZ, BS, gap and P@1 by share of the pairs seen: align-mlm, POS, the seed that has parts."""
    runs = [r for r in results if (r.get("objective"), r.get("language")) == ("align-mlm", MAIN)]
    seeds = {r["seed"] for r in runs if "train_steps" in r and r["dictionary_fraction"] != 1}
    points = []
    for tagged in (r for r in runs if r.get("task") == "pos" and r["pretraining_seed"] in seeds):
        for made in (r for r in runs if "train_steps" in r and r["seed"] in seeds):
            if made["dictionary_fraction"] == tagged["dictionary_fraction"]:
                names = ("dictionary_fraction", "alignment_p1_seen", "alignment_p1_heldout")
                point = {name: made.get(name) for name in names}
                points.append(point | {n: tagged[n] for n in ("bz", "bs", "transfer_gap")})
    return sorted(points, key=lambda point: -point["dictionary_fraction"])


def _plot_curve(points: Sequence[dict[str, Any]], path: Path) -> None:
    figure, axis = pyplot.subplots(figsize=(4.2, 3.0))
    lines = {"bz": ("POS BZ", "o-"), "alignment_p1_heldout": ("P@1 of held-out pairs", "s--")}
    for name, (label, style) in lines.items():
        known = [(100 * p["dictionary_fraction"], p[name]) for p in points if p[name] is not None]
        if known:
            axis.plot(*zip(*known, strict=True), style, color=COLOURS["align-mlm"], label=label)
    axis.set_xlabel("pairs of the dictionary seen in training, %")
    axis.set_ylabel("%")
    axis.set_ylim(-3, 102)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    save_figure(figure, path)


def _equal_or_best(ours: Cell, others: Sequence[Cell]) -> tuple[bool, str]:
    """Whether no other objective's gap is better, or the best one's is no surprise (Welch's t)."""
    best = max(others, key=lambda cell: statistics.fmean(cell.gap))
    here, there = statistics.fmean(ours.gap), statistics.fmean(best.gap)
    shown = f"{here:.1f} against {best.objective}'s {there:.1f}"
    if here >= there or min(len(ours.gap), len(best.gap)) < 2:
        return here >= there, shown
    p = float(stats.ttest_ind(ours.gap, best.gap, equal_var=False).pvalue)
    return p >= EQUAL, f"{shown} (p = {p:.2f})"


def summary(results: Sequence[dict[str, Any]], planned: Counter[tuple[str, str, str]]) -> list[Any]:
    """What was to be shown: `name`, `value`, `target`, `met`; null and false where runs lack."""
    cells = cells_of(results)
    cells = {key: cell for key, cell in cells.items() if len(cell.bz) >= planned[key] > 0}

    def found(*keys: tuple[str, str, str]) -> list[Cell] | None:
        return [cells[key] for key in keys] if all(key in cells for key in keys) else None

    def main(objective: str, task: str = "pos") -> tuple[str, str, str]:
        return objective, MAIN, task

    rows: list[dict[str, Any]] = []

    def row(name: str, target: str, value: Any, met: bool, **more: Any) -> None:
        rows.append({"name": name, "value": value, "target": target, "met": bool(met), **more})

    for other, least in (("mlm", 35), ("xlm", 20)):
        pair, value = found(main("align-mlm"), main(other)), None
        if pair:
            value = round(statistics.fmean(pair[0].bz) - statistics.fmean(pair[1].bz), 2)
        name = f"{MAIN}, POS: BZ of align-mlm − BZ of {other}"
        seeds = min(len(cell.bz) for cell in pair) if pair else 0
        row(name, f">= {least}", value, value is not None and value >= least, seeds=seeds)
    one = found(main("align-mlm"))
    bs = round(statistics.fmean(one[0].bs), 2) if one else None
    seeds = len(one[0].bs) if one else 0
    met = bs is not None and bs >= 91
    row(f"{MAIN}, POS: BS of align-mlm", ">= 91", bs, met, seeds=seeds)

    verdicts = {}
    for task in TASK_NAMES:
        if group := found(*(main(o, task) for o in ("align-mlm", *list(COLOURS)[:-1]))):
            verdicts[task] = _equal_or_best(group[0], group[1:])
    complete = len(verdicts) == len(TASK_NAMES)
    row(
        f"{MAIN}: tasks where align-mlm has the best or a statistically equal gap",
        f"{len(TASK_NAMES)} of {len(TASK_NAMES)}",
        sum(holds for holds, _ in verdicts.values()) if complete else None,
        complete and all(holds for holds, _ in verdicts.values()),
        detail={TASK_NAMES[task]: text for task, (_, text) in verdicts.items()},
        seeds=min((planned[main("align-mlm", task)] for task in verdicts), default=0),
    )
    rest = [key for key in planned if key[1] != MAIN]
    reported = [key for key in rest if key in cells]
    full = len(COLOURS) * len(TASK_NAMES) * 2
    row(
        "trans and trans_syn-fr: cells reported beside the paper's",
        f"{full} of {full}",
        len(reported) if len(reported) == full else None,
        len(reported) == full,
        seeds=min((len(cells[key].bz) for key in reported), default=0),
    )
    pair = found(main("align-mlm"), main("mlm"))
    p1 = {cell.objective: round(statistics.fmean(cell.alignment), 2) for cell in pair or []}
    met = bool(p1) and p1["align-mlm"] >= 95 and p1["mlm"] <= 5
    seeds = min(len(cell.alignment) for cell in pair) if pair else 0
    row(f"{MAIN}: alignment P@1", "align-mlm >= 95, mlm <= 5", p1 or None, met, seeds=seeds)

    rho = correlations(cells.values()).get("pos")
    rho = rho if rho is not None and rho.n == len(COLOURS) * 3 else None
    row(
        "POS: Spearman's ρ of alignment P@1 with transfer gap over the 12 cells",
        ">= 0.7",
        round(rho.rho, 3) if rho else None,
        rho is not None and rho.rho >= 0.7,
        interval=[round(rho.low, 2), round(rho.high, 2)] if rho else None,
        seeds=min((len(c.bz) for k, c in cells.items() if k[2] == "pos"), default=0),
    )
    curve = dictionary_curve(results)
    complete = len(curve) >= 4
    row(
        f"{MAIN}, POS, align-mlm: BZ and held-out P@1 by share of the dictionary",
        "4 points",
        [
            {
                "share": point["dictionary_fraction"],
                "bz": round(point["bz"], 2),
                "heldout_p1": point["alignment_p1_heldout"],
            }
            for point in curve
        ]
        if complete
        else None,
        complete,
        seeds=int(bool(curve)),
    )
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(v)}" for name, v in value.items())
    if isinstance(value, list):
        return ", ".join(f"{100 * p['share']:g} %: {p['bz']:.1f}" for p in value)
    return "–" if value is None else str(value)


def _figures(results: Sequence[dict[str, Any]], output: Path) -> list[str]:
    """Tables and figures of transfer, pre-training and the dictionary curve."""
    whole = [r for r in results if r["dictionary_fraction"] == 1]
    parts = sections(whole, output)
    if curve := dictionary_curve(results):
        _plot_curve(curve, output / "dictionary_curve.png")
        names = ("alignment_p1_seen", "alignment_p1_heldout", "bs", "bz", "transfer_gap")
        rows = [
            [f"{p['dictionary_fraction']:.0%}"]
            + ["–" if p[n] is None else f"{p[n]:.1f}" for n in names]
            for p in curve
        ]
        header = ["pairs seen", "P@1, seen", "P@1, held out", "BS", "BZ", "gap"]
        parts += [f"## Part of the dictionary: align-mlm, {MAIN}, POS, one seed\n"]
        parts += [markdown_table(header, rows), "![dictionary curve](dictionary_curve.png)\n"]
    return parts


def _minutes(results: Sequence[dict[str, Any]]) -> str:
    """What a cell costs: core-minutes of the steps that ran in one go, and the hours of all."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for r in results:
        kind = "parser" if "uas" in r else r.get("task", "pre-training")
        kinds.setdefault(TASK_NAMES.get(kind, kind), []).append(r)
    rows, cell = [], 0.0
    for kind, steps in kinds.items():
        cpu = [r["cpu_minutes"] for r in steps if r.get("cpu_minutes")]
        shown = [f"{statistics.fmean(cpu):.1f}", f"{max(cpu):.1f}"] if cpu else ["–", "–"]
        cell += statistics.fmean(cpu) if cpu and kind != "parser" else 0
        hours = sum(r["seconds"] for r in steps) / 3600
        rows.append([kind, *shown, str(len(cpu)), str(len(steps)), f"{hours:.1f}"])
    hours = sum(r["seconds"] for r in results) / 3600
    rows.append(["a cell of all these", f"{cell:.1f}", "", "", str(len(results)), f"{hours:.1f}"])
    header = ["step", "core-minutes, mean", "most", "of so many", "steps", "hours of a job, in all"]
    return markdown_table(header, rows)


def _commands(steps: Sequence[Any], data_dir: str, output_dir: str, use_cpu: bool) -> str:
    lines = [
        "#!/usr/bin/env bash",
        "# Every command of this reproduction, in order: what hf_alignmlm.reproduce runs.",
        "set -euo pipefail",
        f"data=${{DATA:-{data_dir}}} output=${{RUNS:-{output_dir}}}",
        *(["export OMP_NUM_THREADS=1"] if use_cpu else []),
    ]
    for step in steps:
        cpu = " --use_cpu" if use_cpu and step.command[0].startswith("run_") else ""
        lines.append(_line(step).replace("{", "${") + cpu)
    return "\n".join(lines) + "\n"


def _line(step: Any) -> str:
    return " ".join(["python -m", *(word or "''" for word in step.command)])


def _listed(options: dict[str, Any]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in options.items())


def _distinct(results: Sequence[dict[str, Any]], key: str) -> list[str]:
    shown = (", ".join(f"{k} {v}" for k, v in r[key].items() if v) for r in results if r.get(key))
    return [f"- {line}" for line in dict.fromkeys(shown)]


def write(
    options: Any, steps: Sequence[Any], results: Sequence[dict[str, Any]], failed: dict[str, str]
) -> Path:
    """Write README.md, summary.json, commands.sh, figures and CSV of the results there are."""
    output, preset = Path(options.results_dir), options.preset
    planned = Counter(step.cell for step in steps if step.cell and step.dictionary_fraction == 1)
    rows = summary(results, planned)
    write_json(output / "summary.json", rows)
    use_cpu = not any(r["machine"]["gpus"] for r in results)
    commands = _commands(steps, options.data_dir, options.output_dir, use_cpu)
    write_text(output / "commands.sh", commands)
    have = {r["name"] for r in results}
    missing: dict[str, list[str]] = {}
    for step in (s for s in steps if s.kind != "parsing" and s.name not in have):
        missing.setdefault(step.name.removesuffix(f"-{step.kind}"), []).append(step.kind)
    lacking = [f"{cell} ({', '.join(kinds)})" for cell, kinds in missing.items()]
    shown = [
        [
            r["name"],
            r["target"],
            _shown(r["value"]),
            "yes" if r["met"] else "**no**",
            str(r["seeds"]),
        ]
        for r in rows
    ]
    pretraining = next((s for s in steps if s.kind == "pretraining"), None)
    words = list(pretraining.command) if pretraining else []
    size = SIZES[words[words.index("--size") + 1]] if "--size" in words else SIZES["mini"]
    first = {s.kind: _line(s) for s in reversed(steps)}
    recipes = [first[kind] for kind in ("pretraining", *TASK_NAMES) if kind in first]
    parts = [
        f"# Reproduction: `--preset {preset}`\n",
        "Written by the command below from the files in [results](results); `summary.json` has the "
        "first table, [commands.sh](commands.sh) every command.\n",
        f"```\npython -m hf_alignmlm.reproduce {options.command}\n```\n",
        "## What was to be shown\n",
        markdown_table(["figure", "target", "value", "met", "seeds"], shown),
    ]
    for r in rows:
        if r.get("interval"):
            low, high = r["interval"]
            parts.append(f"95 % interval of ρ: {low:.2f} to {high:.2f}.\n")
        if r.get("detail"):
            listed = "; ".join(f"{task} {text}" for task, text in r["detail"].items())
            parts.append(
                f"Gaps at {MAIN}, align-mlm's and the best of the others: {listed}. Statistically "
                f"equal: Welch's t over pre-training seeds, p ≥ {EQUAL}.\n"
            )
    if results:
        parts += _figures(results, output)
    parts += [
        f"## Missing\n\n{'; '.join(lacking) or 'No step of the grid.'}\n",
        *(f"- {name}: {reason}" for name, reason in failed.items()),
        "\n## Recipe\n",
        "One for all objectives; how it was chosen: docs/recipe.md. `{data}` and `{output}` stand "
        "for the folders of data and runs; one command of each kind:\n",
        "```\n" + "\n".join(recipes) + "\n```\n",
        "What these leave out is the size's default:\n",
        f"- model: {_listed(size.model)}; vocabulary {size.vocab_size:,} a language, sequences of "
        f"{size.max_seq_length}",
        f"- pre-training: {_listed(size.training)}",
        f"- fine-tuning: {_listed(size.finetuning)}\n",
    ]
    for parser in (r for r in results if "uas" in r):
        parts.append(
            f"The parser that gives the text its trees: UAS {parser['uas']:.1f}, LAS "
            f"{parser['las']:.1f} on {parser['scored_on']}, from gold words.\n"
        )
    if results:
        parts += ["## Machine\n", *_distinct(results, "machine"), *_distinct(results, "versions")]
        parts += ["", _minutes(results)]
    write_text(output / "README.md", "\n".join(parts))
    return output / "README.md"
