"""Files that are never half there, and never more than fits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from ufo_ds.errors import UserError

MAX_TEXT_BYTES = 2**30
"""A larger JSON, index or list is refused unread: parsed, it would take ten times as much memory."""


def read_text(path: str | Path, encoding: str = "utf-8", limit: int = MAX_TEXT_BYTES) -> str:
    """The text of a file of at most `limit` bytes. `OSError` or `ValueError` where there is none."""
    return read_bytes(path, limit).decode(encoding)


def read_bytes(path: str | Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """A file of at most `limit` bytes. `OSError` or `ValueError` where there is none."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB")
    return data


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
