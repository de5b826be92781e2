"""Files are written whole or not at all, and read with errors that a person can act on."""

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def open_file(path: str | os.PathLike[str], mode: str = "rt") -> Any:
    """Open a file to read, gzip or not as its name ends; text is UTF-8."""
    opener: Any = gzip.open if str(path).endswith((".gz", ".gzip")) else open
    return opener(path, mode, encoding="utf-8" if "t" in mode else None)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` beside `path` and rename, so that no reader ever sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
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
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from None


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
