"""Runs the steps that are missing, each on a free core or GPU.

A finished step leaves a small results file: enough to report from, and to go on elsewhere.
"""

import argparse
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import TrainingArguments

from hf_alignmlm.files import read_json, write_text
from hf_alignmlm.runs import RESULTS_FILE
from study.grid import Step
from study.parser import SCORES_FILE

# A results file has P@1 of one direction; the other measures stay in the run's own folder.
LEFT_OUT = re.compile(r"^alignment_(backward|.*(p5|p10|mrr))")
HISTORY, HISTORY_LENGTH = ("step", "mlm_loss", "alignment_loss"), 70
HEADLINE = {
    **{"alignment_p1": "P@1", "alignment_p1_heldout": "held-out P@1", "uas": "UAS"},
    **{"eval_original_perplexity": "perplexity", "source": "source", "bz": "BZ", "bs": "BS"},
    "transfer_gap": "gap",
}


def machine(jobs: int) -> dict[str, Any]:
    """What the figures of speed depend on."""
    processor, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists() and (model := re.search(r"model name\s*: (.+)", info.read_text())):
        processor = model[1]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"processor": processor, "cores": os.cpu_count(), "gpus": gpus, "jobs": jobs}


def results_of(step: Step, run: Path) -> dict[str, Any]:
    """What a finished step's folder tells of it, shortened and free of this machine's paths."""
    whole = read_json(run / (SCORES_FILE if step.kind == "parser" else RESULTS_FILE))
    result = {key: value for key, value in whole.items() if not LEFT_OUT.match(key)}
    result |= result.pop("scores", {})
    library = {f.name: f.default for f in fields(TrainingArguments)}
    result["arguments"] = {
        key: value
        for key, value in result.get("arguments", {}).items()
        if value not in (None, False, "", [], library.get(key, MISSING))
        and not key.endswith(("_file", "output_dir", "model_name_or_path"))
    }
    if step.kind == "pretraining":
        log = read_json(run / "trainer_state.json")["log_history"]
        log = [{k: round(e[k], 4) for k in HISTORY if k in e} for e in log if "mlm_loss" in e]
        result["history"] = log[:: -(-len(log) // HISTORY_LENGTH) or 1]
    result |= {"name": step.name, "dictionary_fraction": step.dictionary_fraction}
    return result | {"commands": [list(needed.command) for needed in step.chain]}


class Driver:
    """Runs a list of steps; `options` are those of `python -m study`."""

    def __init__(self, options: argparse.Namespace, steps: Sequence[Step]) -> None:
        self.options, self.steps = options, steps
        self.gpus = torch.cuda.device_count()
        self.jobs = options.jobs or self.gpus or os.cpu_count() or 1
        self.results = Path(options.results_dir) / "results"
        self.waiting: list[Step] = []
        self.running: dict[Future[float], tuple[Step, int]] = {}
        self.failed: dict[str, str] = {}  # or not started, with the reason
        self.seconds: dict[str, list[float]] = {}  # of finished steps, by kind
        self.slots = list(range(self.jobs))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.stopped = False

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
        if not path.exists():
            return None
        result = read_json(path)
        if not isinstance(result, dict) or not {"commands", "seconds", "machine"} <= result.keys():
            raise ValueError(f"{path} is no result of a step: remove it, and the step runs again")
        return result if step.made(result["commands"]) else None

    def missing(self) -> list[Step]:
        """What to run: steps without a result, and those whose product one of these lacks."""
        todo: list[Step] = []
        for step in reversed(self.steps):
            finished = step.kind == "parsing" or self.result(step) is not None
            wanted = any(step in other.needs for other in todo)
            if not finished or (wanted and not Path(self.path(step.product)).exists()):
                todo.insert(0, step)
        return todo

    def check_data(self) -> None:
        """Raise a ValueError that names all files that --data_dir lacks for the waiting steps."""
        # A file may stand behind the name of its language: en={data}/a.txt.
        words = (w.rpartition("{data}/") for step in self.waiting for w in step.command)
        files = dict.fromkeys(file for _, found, file in words if found)
        if lacking := [file for file in files if not Path(self.options.data_dir, file).exists()]:
            raise ValueError(
                f"--data_dir {self.options.data_dir} lacks {', '.join(lacking)} "
                "(docs/reproduction/README.md tells what they are)"
            )

    def call(self, step: Step, slot: int) -> float:
        """Run a step and store its result; its seconds. A failure is a RuntimeError with the cause.

        What was made with other arguments goes first, and the results file last: until all is
        gone, the file says so.
        """
        folder, stored = Path(self.path("{output}"), step.name), self.results / f"{step.name}.json"
        if stored.exists() and self.result(step) is None:
            shutil.rmtree(folder, ignore_errors=True)
            if step.kind == "parser":
                shutil.rmtree(self.path("{output}/parsed"), ignore_errors=True)
            stored.unlink()
        start = time.monotonic()
        if step.kind != "parser" or not Path(self.path(step.product)).exists():
            self.execute(step, folder, slot)
        seconds = time.monotonic() - start
        if step.kind == "parsing":
            return seconds
        result = results_of(step, folder) | {"machine": machine(self.jobs)}
        # A run that was finished or resumed took longer than this call.
        before = result.get("train_runtime") or 60 * (result.get("cpu_minutes") or 0)
        result["seconds"] = max(seconds, before)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        rows = (f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in result.items())
        write_text(stored, "{\n" + ",\n".join(rows) + "\n}\n")
        return result["seconds"]

    def execute(self, step: Step, folder: Path, slot: int) -> None:
        """Run a step's command to its end, on one core or on the GPU of this slot.

        Errors go to a file of their own: in a file shared with the output, what a step printed may
        come after its error, because output is buffered and errors are not.
        """
        log, errors = Path(f"{folder}.log"), Path(f"{folder}.errors.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        device = {"CUDA_VISIBLE_DEVICES": str(slot % self.gpus)} if self.gpus else {}
        environment = os.environ | (device or {"OMP_NUM_THREADS": "1"})
        environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        with log.open("ab") as output, errors.open("ab") as error_output:
            start = error_output.tell()
            process = subprocess.Popen(
                self.command(step),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error_output,
                env=environment,
                # A step that outlives its driver keeps a second one out.
                pass_fds=[self.lock.fileno()],
            )
        self.processes.append(process)
        if self.stopped:
            process.terminate()
        if code := process.wait():
            printed = errors.read_bytes()[start:].decode(errors="replace").strip()
            cause = re.split(r"[\r\n]+", printed)[-1].strip() or "it printed no error"
            raise RuntimeError(f"exit code {code}: {cause} (all of it: {errors}, {log})")

    def start_ready(self, pool: ThreadPoolExecutor) -> None:
        """Start the waiting steps whose needs are there; give up those whose needs failed."""
        for step in list(self.waiting):
            needs = {need.name for need in step.needs}
            running = [other for other, _ in self.running.values()]
            if lost := needs & self.failed.keys():
                self.failed[step.name] = f"needs {', '.join(sorted(lost))}"
            elif self.slots and not needs & {other.name for other in [*self.waiting, *running]}:
                slot = self.slots.pop(0)
                self.running[pool.submit(self.call, step, slot)] = (step, slot)
            else:
                continue
            self.waiting.remove(step)

    def finish(self, future: Future[float], start: float) -> None:
        """Note and print how a step ended, and the time that is left if others take their mean."""
        step, slot = self.running.pop(future)
        self.slots.append(slot)
        if error := future.exception():
            self.failed[step.name] = str(error)
            line = f"FAILED, {error}"
        else:
            self.seconds.setdefault(step.kind, []).append(future.result())
            result = self.result(step) or {}
            figures = ((n, result[k]) for k, n in HEADLINE.items() if result.get(k) is not None)
            line = ", ".join(f"{name} {value:.1f}" for name, value in figures) or "done"
        rest = [*(other for other, _ in self.running.values()), *self.waiting]
        known = [fmean(self.seconds[s.kind]) for s in rest if s.kind in self.seconds]
        sign = "about" if len(known) == len(rest) else "more than"
        left = f"{sign} {timedelta(seconds=round(sum(known) / self.jobs))} left"
        done = len(self.steps) - len(rest) - len(self.failed)
        passed = timedelta(seconds=round(time.monotonic() - start))
        place = f"[{done}/{len(self.steps)}] {step.name}"
        print(f"{place}: {line} · {passed} so far, {left}", flush=True)

    def run(self) -> dict[str, str]:
        """Run all that is missing; the steps that failed, or could not start, with the reason."""
        self.waiting, start = self.missing(), time.monotonic()
        self.check_data()
        for step in self.steps:
            if result := self.result(step):
                self.seconds.setdefault(step.kind, []).append(result["seconds"])
        folder = Path(self.options.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as self.lock, ThreadPoolExecutor(self.jobs) as pool:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                running = f"another reproduction, or a step that one left, runs in {folder}"
                raise ValueError(running) from None
            before = f"{len(self.steps) - len(self.waiting)} of {len(self.steps)} steps done before"
            print(f"{before}; {self.jobs} at a time", flush=True)
            try:
                while self.waiting or self.running:
                    self.start_ready(pool)
                    for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                        self.finish(future, start)
            finally:
                # Interrupted, there are processes that run; else it ends none.
                self.stopped = True
                for process in self.processes:
                    process.terminate()
        return self.failed
