"""Calls a case in this process and says what came of it.

    python tests/robustness/verdicts.py OUT [PART OF] [PATTERN]

runs the cases whose names match, every OF-th from PART on, and writes OUT, a JSON line a case.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import datasets
import torch
from cases import Case, every_case
from transformers.utils import logging
from world import World

from hf_alignmlm import cli

SECONDS = int(os.environ.get("ALIGNMLM_CASE_SECONDS", "60"))
BAD = (
    "TRACEBACK",
    "HANG",
    "CRASH",
    "accepted though wrong",
    "refused though right",
    "names nothing",
    "several lines",
    "wrote before it refused",
    "hurt its input",
)


class TooLong(BaseException):
    """The time of a case is over."""


@dataclass
class Verdict:
    """What came of a case: `ok`, `refused`, or one of BAD; with the line that says why."""

    name: str
    verdict: str
    message: str = ""
    seconds: float = 0.0


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """What a command may change in its process is put back."""
    environment, argv, folder = dict(os.environ), list(sys.argv), os.getcwd()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[:] = argv
        os.chdir(folder)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(1)
        logging.set_verbosity_error()
        datasets.logging.set_verbosity_error()


def call(case: Case, argv: list[str], folder: Path) -> tuple[object, str]:
    """The exit code of a command, or its exception; what it wrote to stderr."""

    def stop(*_: object) -> None:
        raise TooLong

    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with as_before(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            sys.argv[0] = f"alignmlm {case.command.split()[0]}"
            # A relative name is a place below the case's own folder.
            os.chdir(folder)
            cli.run(case.command.split()[0], argv)
        code: object = 0
    except SystemExit as end:
        code = end.code or 0
    except TooLong:
        code = TooLong()
    except BaseException as error:
        code = error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return code, err.getvalue()


def judge(case: Case, code: object, printed: str, folder: Path) -> tuple[str, str]:
    """The verdict, and the line that says why."""
    if isinstance(code, TooLong):
        return "HANG", ""
    if isinstance(code, BaseException):
        frames = traceback.extract_tb(code.__traceback__)
        ours = [
            f"{Path(f.filename).name}:{f.lineno}" for f in frames if "hf_alignmlm" in f.filename
        ]
        text = " ".join(str(code).split())[:160]
        return (
            "TRACEBACK",
            f"{type(code).__name__}: {text} (in {ours[-1] if ours else 'no code of ours'})",
        )
    if code == 0:
        return ("accepted though wrong" if case.right is False else "ok"), ""
    # The usage of argparse comes before its error; warnings of libraries are not the command's.
    lines = [line for line in re.split(r"[\r\n]+", printed) if line.strip()]
    errors = [line for line in lines if re.match(r"[^:]*: error: ", line)]
    text = errors[-1] if errors else printed[-200:]
    if code != 2 or len(errors) != 1 or lines[-1] != errors[-1]:
        return "several lines", f"exit code {code}: {printed[-300:]}"
    if case.right is True:
        return "refused though right", text
    files = [path.name for path in folder.iterdir() if path.is_file()]
    plain = re.sub(r"[\s_-]", "", text.lower())
    named = [*case.named, *files]
    if not any(re.sub(r"[\s_-]", "", name.lower()) in plain for name in named if name):
        return "names nothing", text
    out = folder / "out"
    if case.option and out.exists() and any(out.iterdir()):
        return "wrote before it refused", f"{[p.name for p in out.iterdir()][:4]}: {text}"
    return "refused", text


def digest(folder: Path) -> dict[str, int]:
    return {str(p): hash(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def run(case: Case, world: World, folder: Path) -> Verdict:
    """Make a case in a folder of its own, call it, and judge."""
    folder.mkdir(parents=True)
    start = time.monotonic()
    argv = case.make(world, folder)
    before = {place: hash_of for place, hash_of in digest(folder).items() if "/out/" not in place}
    code, printed = call(case, argv, folder)
    verdict, message = judge(case, code, printed, folder)
    after = digest(folder)
    if verdict == "refused" and any(after.get(place) != value for place, value in before.items()):
        verdict, message = "hurt its input", message
    shutil.rmtree(folder, ignore_errors=True)
    message = message.replace(str(folder), "F").replace(str(world.folder), "W")
    return Verdict(case.name, verdict, message, round(time.monotonic() - start, 2))


def summary(verdicts: list[Verdict]) -> str:
    """Counts by command and verdict."""
    counts = Counter((v.name.split("/")[0], v.verdict) for v in verdicts)
    lines = [
        f"{command:18}{verdict:28}{count}" for (command, verdict), count in sorted(counts.items())
    ]
    return "\n".join([*lines, f"{len(verdicts)} cases"]) + "\n"


def main() -> None:
    """The cases of a command line, one after the other."""
    out, part, of = Path(sys.argv[1]), *map(int, sys.argv[2:4] or (0, 1))
    pattern = sys.argv[4] if len(sys.argv) > 4 else ""
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    scratch = Path(os.environ.get("ALIGNMLM_WORLD", "/tmp/alignmlm-world"))
    world = World(scratch / "world")
    done = {json.loads(line)["name"] for line in out.open()} if out.exists() else set()
    now = Path(f"{out}.now")
    crashed = [now.read_text().strip()] if now.exists() else []
    with out.open("a") as stream:
        for name in set(crashed) - done:
            print(json.dumps(asdict(Verdict(name, "CRASH"))), file=stream)
            done.add(name)
    cases = [c for c in every_case()[part::of] if re.search(pattern, c.name) and c.name not in done]
    print(f"{len(cases)} cases", flush=True)
    with out.open("a") as stream:
        for number, case in enumerate(cases):
            now.write_text(case.name)
            verdict = run(case, world, scratch / f"case-{os.getpid()}-{number}")
            print(json.dumps(asdict(verdict), ensure_ascii=False), file=stream, flush=True)
    now.unlink(missing_ok=True)
    print(summary([Verdict(**json.loads(line)) for line in out.open()]))


if __name__ == "__main__":
    main()
