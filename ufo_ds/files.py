"""Files that are never half there, and never more than fits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ufo_ds.errors import UserError

MAX_TEXT_BYTES = 2**30
"""A larger JSON, index or list is refused unread: parsed, it would take ten times as much memory."""


def read_text(path: str | Path, encoding: str = "utf-8", limit: int = MAX_TEXT_BYTES) -> str:
    """The text of a regular file of at most `limit` bytes. `OSError` or `ValueError` where there is none."""
    return read_bytes(path, limit).decode(encoding)


def read_bytes(path: str | Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """A regular file of at most `limit` bytes. `OSError` or `ValueError` where there is none."""
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        data = file.read(limit + 1) if status.st_size <= limit else b""
    if max(status.st_size, len(data)) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB")
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Without waiting for somebody to write into a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex; `OSError` where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def replace_file(path: Path, data: bytes | str | Iterable[bytes]) -> None:
    """Write `data` (text as UTF-8) to `path`; at any moment the old file or the whole new one is there, also on disk.

    Raises:
        UserError: it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            data = data.encode() if isinstance(data, str) else data
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room or choose another place") from None
    finally:
        with contextlib.suppress(OSError):  # gone after the replacement, or its folder cannot be reached
            temporary.unlink()
