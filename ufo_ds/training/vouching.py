"""What a checkpoint is known by: the size and SHA-256 of its files, written by the run itself.

DeepSpeed's checkpoints are pickles, and loading a pickle runs what is in it. So nothing is loaded but what this run
has written: `checkpoints/written.json` holds the SHA-256 of each checkpoint's `ufo_ds.json`, and that the SHA-256 of
all its files. This tells damage, and checkpoints that came from elsewhere; it does not stop somebody who may write in
the run's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ufo_ds.files import read_text, replace_file, sha256_of

SIDE_FILE = "ufo_ds.json"
"""What a run must agree with to resume, and the files of the checkpoint. Read before anything is unpickled."""
LEDGER = "written.json"


def describe_files(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 by name, each file brought to the disk first."""
    found = {}
    for name in names:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        found[name] = {"bytes": size, "sha256": sha256_of(folder / name)}
    return found


def file_names(folder: Path) -> list[str]:
    """The files of a checkpoint, but for its side file, in order."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != SIDE_FILE)


def write_side_file(folder: Path, side: dict[str, Any]) -> str:
    """Write the side file; its SHA-256."""
    text = json.dumps(side, indent=1)
    replace_file(folder / SIDE_FILE, text)
    return hashlib.sha256(text.encode()).hexdigest()


def vouch(folder: Path, name: str, digest: str) -> None:
    """Enter a checkpoint of `folder` in the ledger; those that are no longer there are struck out."""
    ledger = {key: value for key, value in read_ledger(folder).items() if (folder / key).is_dir()}
    replace_file(folder / LEDGER, json.dumps({**ledger, name: digest}, indent=1) + "\n")


def read_ledger(folder: Path) -> dict[str, str]:
    """SHA-256 of the side file by checkpoint; empty where there is no ledger that can be read."""
    try:
        ledger = json.loads(read_text(folder / LEDGER))
    except (OSError, ValueError, RecursionError):
        return {}
    return ledger if isinstance(ledger, dict) else {}


def read_side_file(path: Path) -> dict[str, Any]:
    """The side file of a checkpoint that this run wrote, and whose files are those it wrote.

    Raises:
        ValueError: it says which file is not, and why.
    """
    side_file = path / SIDE_FILE
    try:
        text = read_text(side_file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{SIDE_FILE} cannot be read ({error})") from None
    known = read_ledger(path.parent).get(path.name)
    if known != hashlib.sha256(text.encode()).hexdigest():
        why = f"{SIDE_FILE} was changed" if known else f"it is not in {LEDGER}, where this run notes what it writes"
        raise ValueError(why)
    side = json.loads(text)
    for problem in _problems(path, side["files"]):
        raise ValueError(problem)
    return side


def _problems(path: Path, files: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Cheap ones first: a truncated file is found before any is read whole."""
    yield from (f"{name} is not one of its files" for name in file_names(path) if name not in files)
    for name, expected in files.items():
        try:
            size = (path / name).stat().st_size
        except OSError as error:
            yield f"{name} cannot be read ({error.strerror})"
        else:
            if size != expected["bytes"]:
                yield f"{name} has {size} of {expected['bytes']} bytes"
    for name, expected in files.items():
        if sha256_of(path / name) != expected["sha256"]:
            yield f"{name} has other content than was written"
