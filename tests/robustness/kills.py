"""Commands that are killed while they write, or run twice at once, and what is left of their work.

    python tests/robustness/kills.py OUT POINTS [COMMAND …]     killed, and called again
    python tests/robustness/kills.py OUT two [COMMAND …]        two at once

Each run is a fork of this process, which has imported everything and run nothing. Python tells an
audit hook of each file that is opened to write, renamed or removed. A run is killed at one of
these events, or some milliseconds after it, so that files which other languages write are hit as
well. Then the same command runs again, and what it leaves must equal what an uninterrupted run
leaves.
"""

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pyarrow.parquet as pq
import torch
from transformers.utils import logging
from world import World, words_of

from hf_alignmlm import cli

sys.path.insert(0, str(Path(__file__).parent.parent / "study"))
MODULES = ("pretraining", "tasks.finetuning", "hub.build", "data.trees", "report", "hub.push")
MODULES += ("doctor", "retrieval")
EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}
TIMES = re.compile(
    "runtime|seconds|per_second|minutes|time|memory|_gib|flos|load|machine|hours|train_loss"
)
# A lock, a log, a digest of all files, and what torch pickles: times and addresses lie in these.
SKIP = r"\.lock$|manifest\.json$|/cache/|\.log$|training_args|optimizer|scheduler|rng_state"
MINUTES = 5


@dataclass
class Target:
    """A command in a folder: its name, its command line, and what may differ of what it leaves."""

    name: str
    run: Callable[[Path], None]
    skip: str = SKIP
    before: Callable[[Path], None] = lambda work: None
    between: Callable[[Path], None] = lambda work: None
    overwritten: "Target | None" = None
    # Where the first of two is held, in shares of its events: it has its lock, and still works.
    held: tuple[float, ...] = (0.5, 0.7, 0.85)


@dataclass
class Outcome:
    """What came of one kill: nothing to tell, or what went wrong."""

    name: str
    point: int
    of: int
    delay: float
    wrong: list[str] = field(default_factory=list)


def scrubbed(value: Any) -> Any:
    """JSON without times, which no two runs share."""
    if isinstance(value, dict):
        return {k: scrubbed(v) for k, v in value.items() if not TIMES.search(k)}
    return [scrubbed(v) for v in value] if isinstance(value, list) else value


def contents(folder: Path, skip: str) -> dict[str, Any]:
    """What the files below a folder hold: rows, JSON without times, or bytes."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = "/" + path.relative_to(folder).as_posix()
        if re.search(skip, name):
            continue
        if path.suffix == ".parquet":
            found[name] = pq.read_table(path).to_pylist()
        elif path.suffix == ".json":
            found[name] = scrubbed(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    return found


def differences(work: Path, whole: dict[str, Any], skip: str) -> list[str]:
    """How what lies in a folder differs from what an uninterrupted run left."""
    try:
        found = contents(work, skip)
    except Exception as error:
        return [f"unreadable: {error}"]
    wrong = [f"{name} is missing" for name in whole.keys() - found.keys()]
    wrong += [f"{name} is left over" for name in found.keys() - whole.keys()]
    common = sorted(name for name in whole.keys() & found.keys() if whole[name] != found[name])
    return wrong + [f"{name} differs{place_of(whole[name], found[name])}" for name in common]


def place_of(before: Any, after: Any) -> str:
    """Where two values of JSON part, and what stands there."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return next(
            (f"/{k}{place_of(before[k], after[k])}" for k in before if before[k] != after[k]), ""
        )
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return next((f"/{i}{place_of(a, b)}" for i, (a, b) in pairs if a != b), "")
    return f": {before!r:.100} became {after!r:.100}"


class Watch:
    """An audit hook of a child: counts events below a folder, and acts at one of them."""

    def __init__(self, work: Path, at: int, act: Callable[[], None], cache: bool) -> None:
        self.work, self.at, self.act, self.cache = str(work), at, act, cache
        self.count, self.busy = 0, False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in EVENTS or self.busy:
            return
        if event == "open":
            mode, flags = args[1], args[2] or 0
            if not (set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR)):
                return
        path = os.path.abspath(str(args[0]))  # the study is told folders below the current one
        if not path.startswith(self.work) or (not self.cache and "/cache/" in path):
            return
        self.count += 1
        if self.count == self.at:
            self.busy = True
            self.act()
            self.busy = False


def fork(
    target: Target,
    work: Path,
    at: int = 0,
    act: Callable[[], None] = lambda: None,
    cache: bool = True,
) -> int:
    """Start a run in a child; its process id. Its count of events goes to a file beside `work`.

    Without `cache`, events in the cache of `datasets` are left out.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        log = os.open(work.with_name("log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(log), "w", buffering=1) for _ in range(2))
        datasets.config.HF_DATASETS_CACHE = work / "cache"
        datasets.config.HF_CACHE_HOME = work / "cache"
        torch.set_num_threads(1)
        watch = Watch(work, at, act, cache)
        sys.addaudithook(watch)
        os.chdir(work)
        try:
            target.run(work)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        watch.busy = True
        work.with_name("events").write_text(str(watch.count))
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)


def ended(child: int) -> int:
    """The exit code of a child, negative for a signal; it is killed when it takes too long."""
    deadline = time.monotonic() + 60 * MINUTES
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 99


def kill_all() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def last_line(work: Path) -> str:
    lines = work.with_name("log").read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


def prepared(target: Target, scratch: Path) -> Path:
    """An empty folder to work in, always of the same name, with what the command needs."""
    work = scratch / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    target.before(work)
    return work


def whole_run(target: Target, scratch: Path, cache: bool = True) -> tuple[dict[str, Any], int]:
    """What an uninterrupted run leaves, and at how many events it writes."""
    work = prepared(target, scratch)
    target.between(work)
    if code := ended(fork(target, work, cache=cache)):
        raise RuntimeError(f"{target.name} fails by itself ({code}): {last_line(work)}")
    return contents(work, target.skip), int((scratch / "events").read_text())


def killed(target: Target, scratch: Path, points: int, tell: Callable[[Outcome], None]) -> None:
    """Kill a command at this many points, each time from the start, and call it again."""
    whole, events = whole_run(target, scratch)
    rng = Random(target.name)
    chosen = sorted(rng.sample(range(1, events + 1), min(points, events)))
    chosen += [rng.randint(1, events) for _ in range(points - len(chosen))]
    for number, point in enumerate(chosen):
        delay = (0, 0, 0.002, 0.02)[number % 4]
        act = threading.Timer(delay, kill_all).start if delay else kill_all
        work = prepared(target, scratch)
        outcome = Outcome(target.name, point, events, delay)
        code = ended(fork(target, work, point, act))
        target.between(work)
        if code not in (-signal.SIGKILL, 0):
            outcome.wrong.append(f"ended with {code} instead of being killed: {last_line(work)}")
        again = ended(fork(target, work))
        if again == 2 and target.overwritten and "--overwrite_output_dir" in last_line(work):
            # It was whole already, and is of another input.
            again = ended(fork(target.overwritten, work))
        if again:
            outcome.wrong.append(f"called again, it ends with {again}: {last_line(work)}")
        else:
            outcome.wrong += differences(work, whole, target.skip)
        tell(outcome)


def two_at_once(target: Target, scratch: Path, tell: Callable[[Outcome], None]) -> None:
    """Hold a run at an event in its middle, and call the command beside it.

    Not while it writes to the cache of `datasets`, which has a lock of its own: the second waits.
    """
    whole, events = whole_run(target, scratch, cache=False)
    for share in target.held:
        point = max(1, round(share * events))
        work, outcome = prepared(target, scratch), Outcome(target.name, point, events, 0)
        target.between(work)
        go, reached = scratch / "go", scratch / "reached"
        for path in (go, reached):
            path.unlink(missing_ok=True)

        def hold(go: Path = go, reached: Path = reached) -> None:
            reached.touch()
            while not go.exists():
                time.sleep(0.01)

        first = fork(target, work, point, hold, cache=False)
        while not reached.exists():
            time.sleep(0.01)
        code = ended(fork(target, work))
        text = work.with_name("log").read_text(errors="replace").strip()
        if code != 2 or "Traceback" in text:
            outcome.wrong.append(f"the second ended with {code}: {last_line(work)}")
        go.touch()
        if code := ended(first):
            outcome.wrong.append(f"the first ended with {code}")
        tell(
            Outcome(
                **asdict(outcome) | {"wrong": outcome.wrong + differences(work, whole, target.skip)}
            )
        )


def targets(world: World) -> list[Target]:
    """Every command that writes."""

    def command(name: str, **more: Any) -> Callable[[Path], None]:
        def run(work: Path) -> None:
            options = world.options(name, work / "out") | more
            if (work / "input.txt").exists():
                options["train_file"] = work / "input.txt"
            cli.run(name.split()[0], words_of(options))

        return run

    def parse(work: Path) -> None:
        module = importlib.import_module("hf_alignmlm.data.trees")
        if hasattr(module, "ROWS_PER_PART"):
            module.ROWS_PER_PART = 7
        command("parse")(work)

    def study(work: Path) -> None:
        from study.__main__ import main

        main(
            [
                "--output_dir",
                "runs",
                "--results_dir",
                "report",
                "--jobs",
                "1",
                "--objectives",
                "mlm",
                "xlm",
                "--languages",
                "trans_inv",
                "--tasks",
                "pos",
            ]
        )

    def scripts(work: Path) -> None:
        from test_grid import FAKE

        for name in ("run_pretraining", "run_tagging"):
            (work / f"{name}.py").write_text(FAKE)
        for name in ("broken", "endless"):
            (work / name).write_text("")

    def first_file(work: Path, number: int = 0) -> None:
        path, texts = work / "input.txt", world.texts[20 * number : 20 * number + 20]
        path.write_text("".join(f"{text}\n" for text in texts))
        # The record of a build has the time of its file.
        os.utime(path, (1000 + number, 1000 + number))

    second_file = partial(first_file, number=1)

    steps = {
        "max_steps": 12,
        "save_strategy": "steps",
        "save_steps": 3,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 6,
    }
    fine = {"seeds": [0, 1], "skip_supervised": False}
    return [
        Target("pretrain", command("pretrain", **steps)),
        Target("tag", command("tag", **fine)),
        Target("nli", command("nli", **fine)),
        Target("corpus", command("corpus", language=["trans_inv", "trans"])),
        Target(
            "corpus of a task",
            command(
                "corpus",
                task_name="ner",
                train_file=world.path["ner.jsonl"],
                test_file=world.path["ner.parquet"],
            ),
        ),
        Target(
            *("corpus of another file", command("corpus")),
            **{"before": first_file, "between": second_file},
            overwritten=Target("", command("corpus", overwrite_output_dir=True)),
        ),
        Target("parse", parse),
        Target("pretrain natural", command("pretrain natural", **steps)),
        Target("pretrain xlm", command("pretrain xlm", **steps)),
        Target("pretrain extend", command("pretrain extend", **steps)),
        Target("tag natural", command("tag natural", **fine)),
        Target("doctor", command("doctor")),
        Target("retrieval", command("retrieval")),
        Target("study", study, SKIP + r"|/calls$|README\.md", before=scripts, held=(0.2, 0.3, 0.4)),
    ]


def main() -> None:
    """Run what the command line asks for; a JSON line an outcome."""
    out, points, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    for module in MODULES:
        importlib.import_module(f"hf_alignmlm.{module}")
    import study.__main__  # noqa: F401

    scratch = Path(os.environ["ALIGNMLM_SCRATCH"])
    scratch.mkdir(parents=True, exist_ok=True)
    world = object.__new__(World)
    making = os.fork()
    if not making:
        try:
            World(scratch / "world").parser  # noqa: B018
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert ended(making) == 0, "the inputs could not be made"
    world.__init__(scratch / "world")  # type: ignore[misc]
    with out.open("a") as stream:

        def tell(outcome: Outcome) -> None:
            print(json.dumps(asdict(outcome)), file=stream, flush=True)

        for target in targets(world):
            if names and target.name not in names:
                continue
            try:
                if points == "two":
                    two_at_once(target, scratch, tell)
                else:
                    killed(target, scratch, int(points), tell)
            except RuntimeError as error:
                tell(Outcome(target.name, 0, 0, 0, [str(error)]))


if __name__ == "__main__":
    main()
