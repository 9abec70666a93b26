"""Files that are never half there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ufo_ds.errors import UserError


def replace_file(path: Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`; at any moment the old file or the whole new one is there, also on disk.

    Raises:
        UserError: it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room or choose another place") from None
    finally:
        with contextlib.suppress(OSError):  # gone after the replacement, or its folder cannot be reached
            temporary.unlink()
