"""JSON read strictly: no NaN, no key twice with different values, nothing absurdly deep or large."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ufo_ds.errors import UserError, shown
from ufo_ds.files import read_bytes


def read_json(path: Path) -> Any:
    """A JSON file, strictly. Raises `UserError`."""
    return parse_json(read_json_bytes(path), path)


def read_json_bytes(path: Path) -> bytes:
    """The bytes of a JSON file, not yet looked at. `UserError` where it cannot be read or is too large."""
    try:
        return read_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give an existing JSON file") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}; write it again") from None


def parse_json(data: bytes, path: Path) -> Any:
    """The value in `data`, strictly; UTF-8, with or without a mark. `UserError` names `path`."""
    try:
        with no_collection():
            return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unambiguous, parse_constant=_no_constant)
    except RecursionError:
        raise UserError(f"{path}: nested far too deeply for a submission; write it again") from None
    except ValueError as error:  # also bad UTF-8 and absurdly long integers
        raise UserError(f"{path}: not valid JSON: {error}; write it again") from None


@contextmanager
def no_collection() -> Iterator[None]:
    """Without Python's collector, which looks at every list again and again while millions are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs) and any(value[key] != item for key, item in pairs):
        twice = next(key for key, item in pairs if value[key] != item)
        raise ValueError(f"key {shown(twice, 60)} stands twice in one object with different values")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
