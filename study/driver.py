"""Runs the steps that are missing, each on a free core or GPU, and stores their results."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from study.grid import Step
from study.results import headline, read_result, store_result


def clock(seconds: float) -> str:
    """Hours and minutes."""
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d} h"


def last_line(path: Path, start: int) -> str:
    """The last line of a file that says something, from byte `start` on."""
    text = path.read_bytes()[start:].decode(errors="replace").strip()
    return re.split(r"[\r\n]+", text)[-1].strip()


class Driver:
    """Runs a list of steps; `options` are those of `python -m study`."""

    def __init__(self, options: argparse.Namespace, steps: Sequence[Step]) -> None:
        self.options, self.steps = options, steps
        self.gpus = torch.cuda.device_count()
        self.jobs = options.jobs or self.gpus or os.cpu_count() or 1
        self.results = Path(options.results_dir) / "results"
        self.waiting: list[Step] = []
        self.running: dict[Future[dict[str, Any]], Step] = {}
        # The steps that failed, or could not start, with the reason.
        self.failed: dict[str, str] = {}
        # What finished steps of each kind took.
        self.seconds: dict[str, list[float]] = {}
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
        """The stored result of a step, if there is one of these arguments."""
        return read_result(step, self.results)

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
        words = dict.fromkeys(w for s in self.waiting for w in s.command if w.startswith("{data}/"))
        if lacking := [w[7:] for w in words if not Path(self.path(w)).exists()]:
            raise ValueError(
                f"--data_dir {self.options.data_dir} lacks {', '.join(lacking)} "
                "(docs/reproduction/README.md tells what they are)"
            )

    def call(self, step: Step) -> dict[str, Any]:
        """Run a step and store its result; a failure is a RuntimeError that tells the cause."""
        folder, stored = self.path("{output}/" + step.name), self.results / f"{step.name}.json"
        if stored.exists() and self.result(step) is None:
            # Made with other arguments. The folder goes first: until it is gone, the file says so.
            trees = [self.path("{output}/parsed")] if step.kind == "parser" else []
            for old in (folder, *trees):
                shutil.rmtree(old, ignore_errors=True)
            stored.unlink()
        seconds = 0.0
        if step.kind != "parser" or not Path(self.path(step.product)).exists():
            slot, start = self.slots.get(), time.monotonic()
            try:
                self.execute(step, folder, slot)
            finally:
                self.slots.put(slot)
            seconds = time.monotonic() - start
        if step.kind == "parsing":
            return {"seconds": seconds}
        return store_result(step, Path(folder), self.results, seconds, self.jobs)

    def execute(self, step: Step, folder: str, slot: int) -> None:
        """Run a step's command to its end, on one core or on the GPU of this slot.

        Errors go to a file of their own: in a file shared with the output, what a step printed may
        come after its error, because output is buffered and errors are not.
        """
        log, errors = Path(f"{folder}.log"), Path(f"{folder}.errors.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        environment["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % self.gpus)
        else:
            environment["OMP_NUM_THREADS"] = "1"
        with log.open("ab") as output, errors.open("ab") as error_output:
            start = error_output.tell()
            with self.lock:
                if self.stopped:
                    raise RuntimeError("stopped")
                # The open lock file: a step that outlives its driver keeps a second one out.
                process = subprocess.Popen(
                    self.command(step),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=error_output,
                    env=environment,
                    pass_fds=[self.lock_file],
                )
                self.processes.add(process)
            code = process.wait()
            self.processes.discard(process)
        if code:
            cause = last_line(errors, start) or "it printed no error"
            raise RuntimeError(f"exit code {code}: {cause} (all of it: {errors}, {log})")

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
                raise ValueError(
                    f"another reproduction, or a step that one left, runs in {folder}"
                ) from None
            self.lock_file = lock.fileno()
            yield

    def start_ready(self, pool: ThreadPoolExecutor) -> None:
        """Start the waiting steps whose needs are there; give up those whose needs failed."""
        for step in list(self.waiting):
            needs = {need.name for need in step.needs}
            unfinished = {other.name for other in [*self.waiting, *self.running.values()]}
            if lost := needs & self.failed.keys():
                self.failed[step.name] = f"needs {', '.join(sorted(lost))}"
            elif len(self.running) < self.jobs and not needs & unfinished:
                self.running[pool.submit(self.call, step)] = step
            else:
                continue
            self.waiting.remove(step)

    def finish(self, future: Future[dict[str, Any]]) -> str:
        """Note how a running step ended; what to print of it."""
        step = self.running.pop(future)
        if error := future.exception():
            self.failed[step.name] = str(error)
            return f"{step.name}: FAILED, {error}"
        self.seconds.setdefault(step.kind, []).append(future.result()["seconds"])
        return f"{step.name}: {headline(future.result())}"

    def progress(self, start: float) -> tuple[int, str]:
        """How many steps are done, and the time: so far, and left if steps take their mean."""
        rest = [*self.running.values(), *self.waiting]
        known = [statistics.fmean(self.seconds[s.kind]) for s in rest if s.kind in self.seconds]
        sign = "about" if len(known) == len(rest) else "more than"
        left = f"{sign} {clock(sum(known) / self.jobs)} left"
        done = len(self.steps) - len(rest) - len(self.failed)
        return done, f"{clock(time.monotonic() - start)} so far, {left}"

    def run(self) -> dict[str, str]:
        """Run all that is missing; the steps that failed, or could not start, with the reason."""
        self.waiting = self.missing()
        self.check_data()
        for step in self.steps:
            if result := self.result(step):
                self.seconds.setdefault(step.kind, []).append(result["seconds"])
        total, start = len(self.steps), time.monotonic()
        with self.locked(), ThreadPoolExecutor(self.jobs) as pool:
            before = f"{total - len(self.waiting)} of {total} steps done before"
            print(f"{before}; {self.jobs} at a time", flush=True)
            try:
                while self.waiting or self.running:
                    self.start_ready(pool)
                    for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                        line = self.finish(future)
                        done, times = self.progress(start)
                        print(f"[{done}/{total}] {line} · {times}", flush=True)
            except BaseException:
                self.stop()
                raise
        return self.failed
