"""The paper's grid with one command: runs what is missing, resumes, and ends in the report.

    python -m study --preset quick

A step is one call of a module. A finished step leaves a small file in `RESULTS_DIR/results`, which
is enough to go on from on another machine. What each preset needs: docs/reproduction/README.md.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence

from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from study.driver import Driver
from study.grid import KINDS, LANGUAGES, MAIN, OBJECTIVES, PRESETS, TASKS, plan
from study.report import write_report


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the preset's defaults; `command` is what the report shows of it."""
    parser = argparse.ArgumentParser(prog="python -m study", description=__doc__)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="quick")
    add("--data_dir", default="data", help="the folder of the preset's data")
    add("--output_dir", help="runs and checkpoints; default: runs/PRESET")
    add("--results_dir", help="results and report; default: docs/reproduction/PRESET")
    add("--jobs", type=int, help="steps at a time; default: number of GPUs, or of cores")
    add("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    add("--languages", nargs="+", default=LANGUAGES)
    add("--tasks", nargs="+", choices=TASKS, default=TASKS)
    seeds = f"of pre-training; all for {MAIN}, else the first"
    add("--seeds", nargs="+", type=int, help=seeds)
    add("--dictionary_fractions", nargs="+", type=float, help="shares of the pairs, 0 to 1")
    kinds = f"further options of the steps of a kind: {', '.join(KINDS)}"
    add("--override", nargs=2, action="append", default=[], metavar=("KIND", "OPTIONS"), help=kinds)
    add("--dry_run", action="store_true", help="print what would run")
    add("--report_only", action="store_true", help="write the report of what there is")
    options = parser.parse_args(argv)
    preset = PRESETS[options.preset]
    options.output_dir = options.output_dir or f"runs/{options.preset}"
    options.results_dir = options.results_dir or f"docs/reproduction/{options.preset}"
    options.seeds = options.seeds or preset["seeds"]
    options.dictionary_fractions = options.dictionary_fractions or preset["dictionary_fractions"]
    options.override = dict(options.override)
    if unknown := options.override.keys() - set(KINDS):
        parser.error(f"--override {', '.join(unknown)}: known kinds are {', '.join(KINDS)}")
    if options.jobs is not None and options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    if not all(0 <= share <= 1 for share in options.dictionary_fractions):
        parser.error("--dictionary_fractions must lie between 0 and 1")
    if min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
        parser.error("--seeds must not be negative, and each stands once")
    # For the report, whose reader has a folder of data of their own.
    given = sys.argv[1:] if argv is None else argv
    words = ["DATA" if word == options.data_dir else word for word in given]
    options.command = shlex.join(word for word in words if word != "--report_only")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run the grid and write its report; exit code 1 where a step failed."""
    options = parse_options(argv)
    # A terminated driver ends its steps as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        for language in options.languages:
            SyntheticLanguage.from_name(language)
        steps = plan(options)
        driver = Driver(options, steps)
        if options.dry_run:
            for step in driver.missing():
                print(shlex.join(driver.command(step)))
            return
        try:
            failed = {} if options.report_only else driver.run()
        except KeyboardInterrupt:
            print("\nStopped. The same command goes on from here.", file=sys.stderr)
            raise SystemExit(130) from None
        results = [result for step in steps if (result := driver.result(step))]
        print(f"Report: {write_report(options, steps, results, failed)}")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    if failed:
        print("The same command runs again what failed, and nothing else.", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
