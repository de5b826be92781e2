"""`python -m benchmarks`: all measurements, into benchmarks/results, and the table of what is met.

    python -m benchmarks [--train_file corpus.txt] [--parts throughput data …] [--compiled]
        [--before CHECKOUT]

On made-up text by default. `--before` compares the losses with another version's checkout.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import ROOT, apart, machine, write_text

RESULTS = ROOT / "benchmarks" / "results"
SIZES = ("mini", "paper")


def measure(part: str, text: Path, args: argparse.Namespace) -> Any:
    """The figures of a part, each measurement in a process of its own."""
    train = ("benchmarks.training", part, "--text", text)
    if part == "throughput":
        counts = {"mini": 20, "paper": 5}
        cases: list[tuple[str, tuple[str, ...]]] = [(size, ()) for size in SIZES]
        cases += [(size, ("--compiled",)) for size in SIZES if args.compiled]
        return {
            " ".join([size, *more]): apart(*train, "--size", size, "--steps", counts[size], *more)
            for size, more in cases
        }
    if part == "memory":
        sides = ("stock", "mlm", "align-mlm")
        found = {s: apart(*train, "--size", "paper", "--side", s)["peak_mib"] for s in sides}
        return {"peak_mib": found, "against_stock": found["align-mlm"] / found["stock"]}
    if part == "growth":
        return apart(*train, "--steps", 12)
    if part == "alignment":
        return apart("benchmarks.alignment")
    if part != "losses":
        return apart("benchmarks.data", part, text)
    found = {
        f"{version} {precision}": apart(*train, "--steps", 200, *options, folder=folder)
        for version, folder in (("now", ROOT), ("before", args.before))
        for precision, options in (("bf16", ()), ("fp32", ("--fp32",)))
    }
    # What rounding alone does: the earlier version beside itself, weights moved by 1e-6.
    found["moved bf16"] = apart(*train, "--steps", 200, "--moved", folder=args.before)
    size = fmean(loss + 10 for loss in found["before bf16"])
    result: dict[str, Any] = {"losses": found}
    for name in ("now fp32", "now bf16", "moved bf16"):
        before = found[f"before {name[-4:]}"]
        differences = [abs(a - b) / size for a, b in zip(found[name], before, strict=True)]
        result[name] = {"mean": fmean(differences), "max": max(differences)}
    return result


def summary() -> list[dict[str, Any]]:
    """A row for each figure that must be reached, of what has been measured."""
    found = {p.stem: json.loads(p.read_text())["figures"] for p in RESULTS.glob("*.json")}
    rows: list[dict[str, Any]] = []

    def row(name: str, value: float, target: float, *, most: bool = False) -> None:
        met = value <= target if most else value >= target
        rows.append({"name": name, "value": float(f"{value:.3g}"), "target": target, "met": met})
        rows[-1]["bound"] = "at most" if most else "at least"

    if speed := found.get("throughput"):
        for size, target in (("paper", 2.7), ("mini", 2.4)):
            ratio = speed[size]["against_stock"]["align-mlm"]
            row(f"throughput at {size}, align-mlm against stock", ratio, target)
        for size in SIZES:
            ratio = speed[size]["align_mlm_against_mlm"]
            row(f"throughput at {size}, align-mlm against our mlm", ratio, 0.95)
        share = speed["paper"]["share_of_matrix_rate"]["align-mlm"]
        row("share of the matrix rate at paper, percent", share, 27)
        for size in SIZES:
            row(f"padding at {size}, percent", speed[size]["padding_percent"], 2, most=True)
    if memory := found.get("memory"):
        row(
            "peak memory at paper, align-mlm against stock", memory["against_stock"], 0.6, most=True
        )
    if rates := found.get("rates"):
        row("deriving and tokenizing, against the plain way", rates["against_plain"], 10)
    if metric := found.get("alignment"):
        row("metric at 40,000 pairs, seconds", metric["seconds"], 20, most=True)
        row("metric at 40,000 pairs, MiB beyond embeddings", metric["extra_mib"], 1024, most=True)
    if losses := found.get("losses"):
        for name in ("now fp32", "now bf16"):
            told = f"same losses over 200 steps, {name[4:]}, mean relative difference"
            row(told, losses[name]["mean"], 2**-8 if "bf16" in name else 1e-5, most=True)
    return rows


def main() -> None:
    """Measure the parts, write them, and print the table."""
    parts = ["throughput", "memory", "growth", "rates", "first_step", "alignment", "finetuning"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train_file", type=Path, help="real text instead of a made-up one")
    parser.add_argument("--parts", nargs="+", choices=[*parts, "losses"], default=parts)
    parser.add_argument("--compiled", action="store_true", help="compiled sides, minutes more")
    parser.add_argument("--before", type=Path, help="checkout of another version, for `losses`")
    args = parser.parse_args()
    if args.before:
        args.parts = [*dict.fromkeys([*args.parts, "losses"])]
    if args.compiled and not machine()["compiler"]:
        print("There is no C++ compiler for torch.compile: the compiled sides are left out")
        args.compiled = False
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        if args.train_file:
            shutil.copy(args.train_file, text)
        else:
            write_text(text, 70)
        for part in args.parts:
            figures = {"machine": machine(), "figures": measure(part, text, args)}
            (RESULTS / f"{part}.json").write_text(json.dumps(figures, indent=1) + "\n")
            print(f"{part}: done", flush=True)
    (RESULTS / "summary.json").unlink(missing_ok=True)
    rows = summary()
    (RESULTS / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("| what | figure | target | met |\n| --- | ---: | ---: | --- |")
    for row in rows:
        told = f"{row['bound']} {row['target']:g}"
        print(f"| {row['name']} | {row['value']:g} | {told} | {'yes' if row['met'] else 'no'} |")


if __name__ == "__main__":
    main()
