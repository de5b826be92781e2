"""The paper's grid with one command: runs what is missing, resumes, and ends in the report.

    python -m hf_alignmlm.reproduce --preset quick

A step is one call of a script. A finished step leaves a small file in `RESULTS_DIR/results`, which
is enough to go on from on another machine. What each preset needs: docs/reproduction/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from transformers import TrainingArguments

from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.files import read_json, write_text
from hf_alignmlm.objectives.base import OBJECTIVES
from hf_alignmlm.runs import RESULTS_FILE
from study import report as study_report

TASKS = ("pos", "ner", "nli")


KINDS = ("parser", "parsing", "pretraining", *TASKS)


# The first stands for all: it alone is run with every seed and, with one task, every dictionary.
LANGUAGES = ("trans_inv", "trans", "trans_syn-fr")


CURVE_OBJECTIVE, CURVE_TASK = "align-mlm", "pos"


HISTORY = ("step", "mlm_loss", "alignment_loss")


HISTORY_LENGTH = 70


# A results file keeps P@1 of one direction; the other measures stay in the run's own folder.
BULKY = re.compile(r"^alignment_(backward|.*(p5|p10|mrr))")


@dataclass(frozen=True)
class Preset:
    """One recipe for all objectives: the options of each kind of step, and the default grid."""

    options: dict[str, str]
    seeds: tuple[int, ...] = (42,)
    dictionary_fractions: tuple[float, ...] = (1.0, 0.5, 0.25, 0.05)
    # Files without trees: for a language that needs these, they are parsed first.
    unparsed: tuple[str, ...] = ()


def _files(pattern: str, *names: str) -> str:
    splits = ("train", "validation", "test")
    pairs = zip(splits, names or splits, strict=True)
    return " ".join(f"--{s}_file {{data}}/{pattern.replace('*', name)}" for s, name in pairs)


_EWT = _files("ud/en_ewt-ud-*.conllu.gz", "train", "dev", "test")


_TASK_FILES = {"pos": _EWT, "ner": _files("wikiann/*.jsonl.gz"), "nli": _files("sick/*.jsonl.gz")}


_BOOKS = "{data}/books/train.txt.gz", "{data}/books/validation.txt.gz"


PRESETS = {
    "quick": Preset(
        {"pretraining": "--size mini --max_steps 400 --bf16"} | dict.fromkeys(TASKS, "--bf16")
    ),
    "mini": Preset(
        {
            "pretraining": "--size mini --max_steps 7000 --bf16 "
            f"--train_file {_BOOKS[0]} {{data}}/ud/en_ewt-ud-train.conllu.gz "
            f"--validation_file {_BOOKS[1]}",
            # Chosen on development sets (docs/recipe.md); POS and NLI: the size's own.
            **{task: f"--bf16 {files}" for task, files in _TASK_FILES.items()},
            "ner": f"--bf16 --learning_rate 5e-4 --num_train_epochs 4 {_TASK_FILES['ner']}",
        },
        seeds=(42, 43, 44),
        unparsed=(*_BOOKS, *(_TASK_FILES["ner"] + " " + _TASK_FILES["nli"]).split()[1::2]),
    ),
    # The paper's scale and tasks; the text to pre-train on comes by --override.
    "paper": Preset(
        {
            "pretraining": "--size paper --bf16",
            "pos": "--bf16 --dataset_name universal-dependencies/universal_dependencies "
            "--dataset_config_name en_ewt",
            "ner": "--bf16 --dataset_name unimelb-nlp/wikiann --dataset_config_name en",
            "nli": "--bf16 --dataset_name facebook/xnli --dataset_config_name en "
            "--num_train_epochs 5",
        }
    ),
}


@dataclass(frozen=True)
class Step:
    """One call of a script; `{data}` and `{output}` in its command stand for the two folders."""

    name: str
    kind: str
    command: tuple[str, ...]
    product: str
    needs: tuple[Step, ...] = ()
    # Objective, language and task.
    cell: tuple[str, str, str] | None = None
    dictionary_fraction: float = 1.0

    @property
    def commands(self) -> list[list[str]]:
        """All commands that lead to this step's result, in order: a result is known by them."""
        before = [command for step in self.needs for command in step.commands]
        return [list(c) for c in dict.fromkeys(map(tuple, [*before, self.command]))]


def plan(options: argparse.Namespace) -> list[Step]:
    """All steps of the grid, the most telling first: first seeds, more seeds, dictionary curve."""
    preset, steps, main = PRESETS[options.preset], dict[str, Step](), LANGUAGES[0]

    def add(
        name: str, kind: str, words: list[str], product: str, *needs: Step, **more: Any
    ) -> Step:
        return steps.setdefault(name, Step(name, kind, tuple(words), product, needs, **more))

    def parsed(path: str) -> Step:
        parser = add(
            *("parser", "parser"),
            f"hf_alignmlm.parsing train {_EWT} --output_dir {{output}}/parser".split()
            + shlex.split(options.override.get("parser", "")),
            "{output}/parser/parser.json",
        )
        name = "-".join(path.split(".")[0].split("/")[1:])
        product = f"{{output}}/parsed/{name}.parquet"
        command = f"hf_alignmlm.parsing parse {path} --parser {{output}}/parser --output {product}"
        words = command.split() + shlex.split(options.override.get("parsing", ""))
        return add(name, "parsing", words, product, parser)

    def run(name: str, kind: str, head: str, language: str, *needs: Step, **more: Any) -> Step:
        words = shlex.split(f"{preset.options[kind]} {options.override.get(kind, '')}")
        trees = {w: parsed(w) for w in words if "syn-" in language and w in preset.unparsed}
        words = [trees[w].product if w in trees else w for w in words]
        folder = "{output}/" + name
        product = f"{folder}/{'model.safetensors' if kind == 'pretraining' else RESULTS_FILE}"
        command = [*head.split(), *words, "--output_dir", folder]
        return add(name, kind, command, product, *trees.values(), *needs, **more)

    def cell(objective: str, language: str, seed: int, fraction: float = 1.0) -> None:
        name = f"{objective}-{language}-{seed}"
        head = f"run_pretraining --objective {objective} --language {language} --seed {seed}"
        if fraction != 1:
            name += f"-d{round(100 * fraction):02d}"
            head += f" --dictionary_fraction {fraction:g}"
        more = {"dictionary_fraction": fraction}
        pretraining = run(name, "pretraining", head, language, **more)
        for task in options.tasks if fraction == 1 else (CURVE_TASK,):
            head = "run_xnli" if task == "nli" else f"run_tagging --task_name {task}"
            head += f" --model_name_or_path {{output}}/{name}"
            key = (objective, language, task)
            run(f"{name}-{task}", task, head, language, pretraining, cell=key, **more)

    for language in sorted(options.languages, key=lambda name: [*LANGUAGES, name].index(name)):
        for objective in options.objectives:
            cell(objective, language, options.seeds[0])
    if main in options.languages:
        for seed in options.seeds[1:]:
            for objective in options.objectives:
                cell(objective, main, seed)
        if CURVE_OBJECTIVE in options.objectives and CURVE_TASK in options.tasks:
            for fraction in sorted({*options.dictionary_fractions} - {1.0}, reverse=True):
                cell(CURVE_OBJECTIVE, main, options.seeds[0], fraction)
    # Parsing takes long and few wait for it, so it goes first.
    return sorted(steps.values(), key=lambda step: step.kind not in KINDS[:2])


def machine(jobs: int) -> dict[str, Any]:
    """What the figures of speed depend on."""
    processor, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.+)", info.read_text())):
        processor = found[1]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"processor": processor, "cores": os.cpu_count(), "gpus": gpus, "jobs": jobs}


def headline(result: dict[str, Any]) -> str:
    """The figures of a result that fit into a line."""
    names = {
        **{"alignment_p1": "P@1", "alignment_p1_heldout": "held-out P@1", "uas": "UAS"},
        **{"eval_original_perplexity": "perplexity", "source": "source", "bz": "BZ", "bs": "BS"},
        "transfer_gap": "gap",
    }
    shown = [f"{name} {result[k]:.1f}" for k, name in names.items() if result.get(k) is not None]
    return ", ".join(shown) or "done"


def clock(seconds: float) -> str:
    """Hours and minutes."""
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d} h"


class Driver:
    """Runs the steps that are missing, each on a free core or GPU."""

    def __init__(self, options: argparse.Namespace, steps: Sequence[Step]):
        self.options, self.steps = options, steps
        self.gpus = torch.cuda.device_count()
        self.jobs = options.jobs or self.gpus or os.cpu_count() or 1
        self.results = Path(options.results_dir) / "results"
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.lock, self.stopped = threading.Lock(), False
        self.slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(self.jobs):
            self.slots.put(slot)

    def path(self, text: str) -> str:
        """A word of a command with this machine's folders in it."""
        output = self.options.output_dir
        return text.replace("{data}", self.options.data_dir).replace("{output}", output)

    def command(self, step: Step) -> list[str]:
        """The command to call on this machine."""
        words = [sys.executable, "-m", *map(self.path, step.command)]
        if step.command[0].startswith("run_"):
            words += ["--disable_tqdm", "True", *([] if self.gpus else ["--use_cpu"])]
        return words

    def result(self, step: Step) -> dict[str, Any] | None:
        """The stored result of this very step; None where there is none, or of other arguments."""
        path = self.results / f"{step.name}.json"
        found = read_json(path) if path.exists() else {}
        return found if found.get("commands") == step.commands else None

    def missing(self) -> list[Step]:
        """What to run: steps without a result, and those whose product one of these lacks."""
        todo: list[Step] = []
        for step in reversed(self.steps):
            finished = step.kind == "parsing" or self.result(step) is not None
            wanted = any(step in other.needs for other in todo)
            if not finished or (wanted and not Path(self.path(step.product)).exists()):
                todo.insert(0, step)
        return todo

    def check_data(self, steps: Sequence[Step]) -> None:
        """A `ValueError` that names all files that these steps need and --data_dir lacks."""
        words = dict.fromkeys(w for s in steps for w in s.command if w.startswith("{data}/"))
        if lacking := [w[7:] for w in words if not Path(self.path(w)).exists()]:
            raise ValueError(
                f"--data_dir {self.options.data_dir} lacks {', '.join(lacking)} "
                "(docs/reproduction/README.md tells what they are)"
            )

    def call(self, step: Step) -> dict[str, Any]:
        """Run a step and store its result; a failure is a `RuntimeError` with its log's end."""
        folder, stored = self.path("{output}/" + step.name), self.results / f"{step.name}.json"
        if stored.exists() and self.result(step) is None:
            # Of other arguments: the folder first, so that what is stored tells until it is gone.
            for old in (
                (folder, self.path("{output}/parsed")) if step.kind == "parser" else (folder,)
            ):
                shutil.rmtree(old, ignore_errors=True)
            stored.unlink()
        if step.kind == "parser" and Path(self.path(step.product)).exists():
            return self.collect(step, Path(folder), 0)
        log, errors = Path(f"{folder}.log"), Path(f"{folder}.errors.log")
        slot, start = self.slots.get(), time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        environment |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % self.gpus)
        else:
            environment["OMP_NUM_THREADS"] = "1"
        try:
            # Errors go to a file of their own: what a step prints may reach one shared file after
            # its error, because output is buffered and errors are not.
            with log.open("ab") as stream, errors.open("ab") as error_stream:
                begin = error_stream.tell()
                with self.lock:
                    if self.stopped:
                        raise RuntimeError("stopped")
                    # The open lock file: a step that outlives its driver keeps a second one out.
                    process = subprocess.Popen(
                        self.command(step),
                        stdin=subprocess.DEVNULL,
                        stdout=stream,
                        stderr=error_stream,
                        env=environment,
                        pass_fds=[self.lock_file],
                    )
                    self.processes.add(process)
                code = process.wait()
                self.processes.discard(process)
        finally:
            self.slots.put(slot)
        if code:
            told = errors.read_bytes()[begin:].decode(errors="replace").strip()
            last = re.split(r"[\r\n]+", told)[-1].strip() or "it gave no reason"
            raise RuntimeError(f"exit code {code}: {last} (all of it: {errors}, {log})")
        if step.kind == "parsing":
            return {"seconds": time.monotonic() - start}
        return self.collect(step, Path(folder), time.monotonic() - start)

    def collect(self, step: Step, folder: Path, seconds: float) -> dict[str, Any]:
        """Store the small results file of a finished step, free of this machine's paths."""
        name = "parser.json" if step.kind == "parser" else RESULTS_FILE
        result = {k: v for k, v in read_json(folder / name).items() if not BULKY.match(k)}
        result |= result.pop("scores", {})
        library = {f.name: f.default for f in fields(TrainingArguments)}
        result["arguments"] = {
            key: value
            for key, value in result.get("arguments", {}).items()
            if value not in (None, False, "", [], library.get(key, MISSING))
            and not key.endswith(("_file", "output_dir", "model_name_or_path"))
        }
        if step.kind == "pretraining":
            log = read_json(folder / "trainer_state.json")["log_history"]
            log = [{k: round(e[k], 4) for k in HISTORY if k in e} for e in log if "mlm_loss" in e]
            result["history"] = log[:: -(-len(log) // HISTORY_LENGTH) or 1]
            for checkpoint in folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        result |= {"name": step.name, "dictionary_fraction": step.dictionary_fraction}
        result["machine"] = machine(self.jobs)
        # A run that was finished or resumed took longer than this call.
        before = result.get("train_runtime") or 60 * result.get("cpu_minutes", 0)
        result["seconds"] = max(seconds, before)
        result["commands"] = step.commands
        rows = (f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in result.items())
        write_text(self.results / f"{step.name}.json", "{\n" + ",\n".join(rows) + "\n}\n")
        return result

    def time_left(self, steps: Sequence[Step], seconds: dict[str, list[float]]) -> str:
        """Estimated from the finished steps of each kind; a bound where one has none yet."""
        known = [statistics.fmean(seconds[s.kind]) for s in steps if s.kind in seconds]
        sign = "about" if len(known) == len(steps) else "more than"
        return f"{sign} {clock(sum(known) / self.jobs)} left"

    def stop(self) -> None:
        """End all running steps."""
        with self.lock:
            self.stopped = True
            for process in self.processes:
                process.terminate()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second driver out; a step that outlives this one still holds the lock."""
        folder = Path(self.options.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                told = f"another reproduction, or a step that one left, runs in {folder}"
                raise ValueError(told) from None
            self.lock_file = lock.fileno()
            yield

    def run(self) -> dict[str, str]:
        """Run all that is missing; the steps that failed, or could not start, with the reason."""
        waiting = self.missing()
        self.check_data(waiting)
        before = f"{len(self.steps) - len(waiting)} of {len(self.steps)} steps done before"
        failed: dict[str, str] = {}
        running: dict[Future[dict[str, Any]], Step] = {}
        start, seconds = time.monotonic(), dict[str, list[float]]()
        for step in self.steps:
            if found := self.result(step):
                seconds.setdefault(step.kind, []).append(found["seconds"])
        with self.locked(), ThreadPoolExecutor(self.jobs) as pool:
            print(f"{before}; {self.jobs} at a time", flush=True)
            try:
                while waiting or running:
                    for step in list(waiting):
                        needs = {need.name for need in step.needs}
                        if lost := needs & failed.keys():
                            failed[step.name] = f"needs {', '.join(sorted(lost))}"
                        elif len(running) < self.jobs and not needs & {
                            other.name for other in [*waiting, *running.values()]
                        }:
                            running[pool.submit(self.call, step)] = step
                        else:
                            continue
                        waiting.remove(step)
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        step = running.pop(future)
                        if error := future.exception():
                            failed[step.name] = str(error)
                            line = f"FAILED, {error}"
                        else:
                            line = headline(future.result())
                            seconds.setdefault(step.kind, []).append(future.result()["seconds"])
                        rest = [*running.values(), *waiting]
                        done = len(self.steps) - len(rest) - len(failed)
                        times = f"{clock(time.monotonic() - start)} so far"
                        times += f", {self.time_left(rest, seconds)}"
                        print(
                            f"[{done}/{len(self.steps)}] {step.name}: {line} · {times}", flush=True
                        )
            except BaseException:
                self.stop()
                raise
        return failed


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the preset's defaults."""
    parser = argparse.ArgumentParser(prog="python -m hf_alignmlm.reproduce", description=__doc__)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="quick")
    add("--data_dir", default="data", help="the folder of the preset's data")
    add("--output_dir", help="runs and checkpoints; default: runs/PRESET")
    add("--results_dir", help="results and report; default: docs/reproduction/PRESET")
    add("--jobs", type=int, help="steps at a time; default: number of GPUs, or of cores")
    add("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    add("--languages", nargs="+", default=LANGUAGES)
    add("--tasks", nargs="+", choices=TASKS, default=TASKS)
    add(
        "--seeds",
        nargs="+",
        type=int,
        help=f"of pre-training; all for {LANGUAGES[0]}, else the first",
    )
    add("--dictionary_fractions", nargs="+", type=float)
    add(
        "--override",
        nargs=2,
        action="append",
        default=[],
        metavar=("KIND", "OPTIONS"),
        help=f"further options of the steps of a kind: {', '.join(KINDS)}",
    )
    add("--dry_run", action="store_true", help="print what would run")
    add("--report_only", action="store_true", help="write the report of what there is")
    options = parser.parse_args(argv)
    words = [w for w in (argv if argv is not None else sys.argv[1:]) if w != "--report_only"]
    options.command = shlex.join(words)
    preset = PRESETS[options.preset]
    options.output_dir = options.output_dir or f"runs/{options.preset}"
    options.results_dir = options.results_dir or f"docs/reproduction/{options.preset}"
    options.seeds = options.seeds or list(preset.seeds)
    options.dictionary_fractions = options.dictionary_fractions or list(preset.dictionary_fractions)
    options.override = dict(options.override)
    if unknown := options.override.keys() - set(KINDS):
        parser.error(f"--override {', '.join(unknown)}: known kinds are {', '.join(KINDS)}")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m hf_alignmlm.reproduce`."""
    options = parse(argv)
    steps = plan(options)
    driver = Driver(options, steps)
    failed: dict[str, str] = {}
    if options.dry_run:
        for step in driver.missing():
            print(shlex.join(driver.command(step)))
        return
    # A terminated driver ends its steps as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with one_line_errors():
            failed = {} if options.report_only else driver.run()
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None
    with one_line_errors():
        results = [found | {"folder": driver.results} for s in steps if (found := driver.result(s))]
        print(f"Report: {study_report.write(options, steps, results, failed)}")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    if failed:
        print("The same command runs again what failed, and nothing else.", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
