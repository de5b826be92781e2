"""Files are written whole or not at all, and read with errors that a person can act on."""

import bz2
import glob
import gzip
import hashlib
import json
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

COMPRESSIONS: dict[str, Any] = {".gz": gzip, ".gzip": gzip, ".bz2": bz2, ".xz": lzma}
NOT_SUPPORTED = (".zst", ".lz4", ".br", ".zip", ".7z", ".rar", ".tar", ".tgz")
# What a damaged compressed file raises.
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
# More characters are no line of text: what a bomb expands to is refused in bounded memory.
LONGEST_LINE = 1 << 26
# A byte that is no UTF-8 is read as one of these; a NUL is UTF-16 or no text at all.
NO_TEXT = re.compile("[\0\udc80-\udcff]")


def open_file(path: str | os.PathLike[str], mode: str = "rt", **options: Any) -> Any:
    """Open a file to read, compressed or not as its name ends; text is UTF-8, its BOM skipped."""
    ending = Path(path).suffix.lower()
    if ending in NOT_SUPPORTED:
        raise ValueError(f"{path}: {ending} is not supported; unpack it, or compress it by gzip")
    opener: Any = COMPRESSIONS[ending].open if ending in COMPRESSIONS else open
    if "t" in mode:
        options["encoding"] = "utf-8-sig"
    return opener(path, mode, **options)


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a text file, without their ends; ValueError names the line that is no text."""
    try:
        with open_file(path, errors="surrogateescape") as stream:
            for number in count(1):
                line = stream.readline(LONGEST_LINE)
                if not line:
                    return
                if NO_TEXT.search(line):
                    raise ValueError(f"{path}, line {number}, is not UTF-8 text: convert it first")
                if len(line) == LONGEST_LINE:
                    raise ValueError(f"{path}, line {number}, is too long: break it into lines")
                yield line.removesuffix("\n")
    except (OSError, *DAMAGED) as error:
        if getattr(error, "errno", None):
            raise
        compression = COMPRESSIONS[Path(path).suffix.lower()].__name__
        raise ValueError(f"{path} is a damaged {compression} file") from None


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache
def _digest(path: Path, *size_and_time: int) -> str:
    return sha256(path)[:16]


def digests(path: str | os.PathLike[str], pattern: str = "**/*") -> list[list[str]]:
    """Name and digest of a file, or of the files of a folder that match; empty for neither.

    It stands here and not beside the builders, because `datasets` replaces `open` and `Path` in a
    builder's module, and its own read a file named `a::b.txt` as the address of two.
    """
    files = sorted(Path(path).glob(pattern)) if Path(path).is_dir() else [Path(path)]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [[f.name, _digest(f, stat.st_size, stat.st_mtime_ns)] for f, stat in stats]


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass  # another user's
    return True


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` beside `path` and rename, so that no reader ever sees half a file.

    What a killed process left beside it is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if not _is_running(old.suffixes[-2][1:]):
            old.unlink(missing_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write `data` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON; a file that is not JSON is a `ValueError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from None


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read one JSON object; `ValueError`, which names the file, for anything else."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return record


def check_output(output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise, in one line, for an output that is a folder or one of the files to be read."""
    output = Path(output)
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder: name a file as --output")
    if any(output.exists() and Path(path).exists() and output.samefile(path) for path in inputs):
        raise ValueError(f"{output} is the input: name another --output")


@contextmanager
def exclusive(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other commands out of a file or folder; `ValueError` where one is at work in it.

    The lock is a hidden file beside it, removed at the end. A killed command leaves the file, but
    not the lock.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"{path} is in use by another command: wait for it, or name another output"
        ) from None
    try:
        yield
    finally:
        # While it is still locked: whoever has opened it meanwhile sees that it is gone, and
        # makes another.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
