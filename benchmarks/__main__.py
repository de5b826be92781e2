"""`python -m benchmarks`: all measurements, into benchmarks/results, and the table of what is met.

    python -m benchmarks [--train_file corpus.txt] [--parts throughput rates …] [--before CHECKOUT]

On made-up text by default. `--before` compares the losses with another version's checkout.
"""

import argparse
import shutil
import tempfile
from functools import reduce
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import ROOT, apart, machine, write_text
from hf_alignmlm.files import read_json, write_json

RESULTS = ROOT / "benchmarks" / "results"
# Steps of a round, by size.
STEPS = {"mini": 20, "paper": 5}


def measure(part: str, text: Path, args: argparse.Namespace) -> Any:
    """The figures of a part, each measurement in a process of its own."""
    train = ("benchmarks.training", part, "--text", text)
    if part == "throughput":
        return {s: apart(*train, "--size", s, "--steps", steps) for s, steps in STEPS.items()}
    if part == "memory":
        sides = ("stock", "mlm", "align-mlm")
        peak = {s: apart(*train, "--size", "paper", "--side", s)["peak_mib"] for s in sides}
        return {"peak_mib": peak, "against_stock": peak["align-mlm"] / peak["stock"]}
    if part == "losses":
        return losses(train, args.before)
    return apart("benchmarks.data", part, *([] if part == "alignment" else ["--text", text]))


def losses(command: tuple[Any, ...], before: Path) -> dict[str, Any]:
    """The losses of 200 steps of this version and another's, and how far they lie apart."""
    runs = {
        f"{version} {precision}": apart(*command, "--steps", 200, *options, folder=folder)
        for version, folder in (("now", ROOT), ("before", before))
        for precision, options in (("bf16", ()), ("fp32", ("--fp32",)))
    }
    # What rounding alone does: the earlier version beside itself, weights moved by 1e-6.
    runs["moved bf16"] = apart(*command, "--steps", 200, "--moved", folder=before)
    # The alignment term makes the loss negative: 10 is its weight, and so the most it takes away.
    size = fmean(loss + 10 for loss in runs["before bf16"])
    result: dict[str, Any] = {"losses": runs}
    for name in ("now fp32", "now bf16", "moved bf16"):
        pairs = zip(runs[name], runs[f"before {name[-4:]}"], strict=True)
        differences = [abs(a - b) / size for a, b in pairs]
        result[name] = {"mean": fmean(differences), "max": max(differences)}
    return result


def summary() -> list[dict[str, Any]]:
    """A row for each figure that must be reached (targets.json), of what has been measured."""
    rows = []
    for name, bound, target, place in read_json(RESULTS.parent / "targets.json"):
        part, *keys = place.split("/")
        path = RESULTS / f"{part}.json"
        if path.exists():
            value = reduce(lambda figures, key: figures[key], keys, read_json(path)["figures"])
            met = value <= target if bound == "at most" else value >= target
            row = {"name": name, "value": float(f"{value:.3g}"), "target": target, "met": met}
            rows.append({**row, "bound": bound})
    return rows


def main() -> None:
    """Measure the parts, write them, and print the table."""
    parts = ["throughput", "memory", "rates", "alignment"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train_file", type=Path, help="real text instead of a made-up one")
    parser.add_argument("--parts", nargs="+", choices=[*parts, "losses"], default=parts)
    parser.add_argument("--before", type=Path, help="checkout of another version, for `losses`")
    args = parser.parse_args()
    if args.before:
        args.parts = [*dict.fromkeys([*args.parts, "losses"])]
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        if args.train_file:
            shutil.copy(args.train_file, text)
        else:
            write_text(text, 70)
        for part in args.parts:
            figures = {"machine": machine(), "figures": measure(part, text, args)}
            write_json(RESULTS / f"{part}.json", figures)
            print(f"{part}: done", flush=True)
    rows = summary()
    write_json(RESULTS / "summary.json", rows)
    print("| what | figure | target | met |\n| --- | ---: | ---: | --- |")
    for row in rows:
        bound = f"{row['bound']} {row['target']:g}"
        print(f"| {row['name']} | {row['value']:g} | {bound} | {'yes' if row['met'] else 'no'} |")


if __name__ == "__main__":
    main()
