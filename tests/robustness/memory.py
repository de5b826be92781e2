"""How much memory a command takes for an input that is out of proportion.

    python tests/robustness/memory.py OUT [PATTERN]

Each command runs in a process of its own, first on an ordinary file: what it takes beyond that is
the input's. OUT gets a JSON line a case: name, exit code, seconds, MiB beyond, the last line of
stderr.
"""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from world import World, words_of

SECONDS = 900
# Lines of 2 and 4 KiB: what counts is memory, and a billion lines would take time above all.
SENTENCES, BLANKS = b"a cat sat . " * 170 + b"\n", b" " * 4095 + b"\n"
CALL = "import sys; from hf_alignmlm import cli; cli.run(sys.argv[1], sys.argv[2:])"


def measured(command: str, options: dict[str, Any], folder: Path) -> tuple[int, float, float, str]:
    """Exit code, seconds and peak MiB of a command; the last line of what it wrote to stderr."""
    start, log = time.monotonic(), folder / "stderr"
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as stream:
        argv = [sys.executable, "-c", CALL, command, *words_of(options)]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=stream, env=environment)
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() - start > SECONDS:
                process.kill()
            time.sleep(0.05)
    lines = log.read_text(errors="replace").strip().splitlines() or [""]
    code = os.waitstatus_to_exitcode(ended[1])
    return code, round(time.monotonic() - start, 1), ended[2].ru_maxrss / 1024, lines[-1][:300]


def bomb(path: Path, piece: bytes, gigabytes: float) -> None:
    """A gzip file that expands to gigabytes of one piece, over and over."""
    block = piece * (2**20 // len(piece))
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(round(gigabytes * 1024)):
            stream.write(block)


def large(path: Path, texts: list[str]) -> None:
    """A gibibyte of text."""
    block = "".join(f"{text}\n" for text in texts).encode() * 400
    with path.open("wb") as stream:
        while stream.tell() < 2**30:
            stream.write(block)


def inputs(world: World) -> dict[str, tuple[str, str, Callable[[Path], None], dict[str, Any]]]:
    """By name: the command, the option of its file, what writes the file, and more options."""
    word = "x" * 300_000
    with_word = {
        "txt": f"{word}\n{word} and more .\n".encode(),
        "jsonl": json.dumps({"tokens": [word, "a"], "ner_tags": ["O", "O"]}).encode() + b"\n",
    }
    some = {"max_train_samples": 100}
    return {
        "bomb without lines.txt.gz": ("pretrain", "train_file", lambda p: bomb(p, b"a", 1.5), some),
        "bomb of lines.txt.gz": (
            "pretrain",
            "train_file",
            lambda p: bomb(p, SENTENCES, 1.5),
            some,
        ),
        "bomb of blanks.txt.gz": ("pretrain", "train_file", lambda p: bomb(p, BLANKS, 1.5), some),
        "bomb.jsonl.gz": ("pretrain", "train_file", lambda p: bomb(p, b" ", 1.5), some),
        "bomb for tags.txt.gz": ("tag", "train_file", lambda p: bomb(p, b"a", 1.5), some),
        "bomb for pairs.txt.gz": (
            "pretrain",
            "dictionary_file",
            lambda p: bomb(p, b"a", 1.5),
            some,
        ),
        "bomb to parse.txt.gz": ("parse", "", lambda p: bomb(p, b"a", 1.5), {}),
        "bomb to build.txt.gz": (
            "corpus",
            "train_file",
            lambda p: bomb(p, b"a", 1.5),
            {"max_samples": 100},
        ),
        "bomb.conllu.gz": ("pretrain", "train_file", lambda p: bomb(p, b"a", 1.5), some),
        "word.txt": (
            "pretrain",
            "train_file",
            lambda p: p.write_bytes(with_word["txt"] + world.files["corpus.text"]),
            {},
        ),
        "word to build.txt": (
            "corpus",
            "train_file",
            lambda p: p.write_bytes(with_word["txt"] + world.files["corpus.text"]),
            {},
        ),
        "word to parse.txt": ("parse", "", lambda p: p.write_bytes(with_word["txt"]), {}),
        "word to tag.jsonl": (
            "tag",
            "train_file",
            lambda p: p.write_bytes(with_word["jsonl"] + world.files["ner.jsonl"]),
            {},
        ),
        "gibibyte.txt": ("pretrain", "train_file", lambda p: large(p, world.texts), some),
        "gibibyte streamed.txt": (
            "pretrain",
            "train_file",
            lambda p: large(p, world.texts),
            {**some, "streaming": True},
        ),
        "gibibyte to build.txt": (
            "corpus",
            "train_file",
            lambda p: large(p, world.texts),
            {"max_samples": 100},
        ),
    }


def main() -> None:
    """Measure each input; commands are first measured on ordinary files."""
    out, pattern = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    scratch = Path(os.environ["ALIGNMLM_SCRATCH"])
    scratch.mkdir(parents=True, exist_ok=True)
    world, ordinary = World(scratch / "world"), {}
    for number, (name, (command, option, write, more)) in enumerate(inputs(world).items()):
        if not re.search(pattern, name):
            continue
        folder = scratch / f"memory-{number}"
        folder.mkdir()
        options = world.options(command, folder / "out")
        if command not in ordinary:
            ordinary[command] = measured(
                command,
                options | {"output_dir": folder / "first"} if command != "parse" else options,
                folder,
            )[2]
            subprocess.run(["rm", "-rf", str(folder / "out")], check=True)
        path = folder / name.replace(" ", "-")
        write(path)
        code, seconds, peak, line = measured(command, options | more | {option: path}, folder)
        path.unlink()
        row = {
            "name": name,
            "code": code,
            "seconds": seconds,
            "mib_beyond": round(peak - ordinary[command]),
            "line": line,
        }
        with out.open("a") as stream:
            print(json.dumps(row), file=stream)
        subprocess.run(["rm", "-rf", str(folder)], check=True)


if __name__ == "__main__":
    main()
