"""What a run ran on: versions, revision, command, machine. Imports nothing to find out, and names no host."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import ufo_ds
from ufo_ds.files import replace_file
from ufo_ds.redaction import without_secrets

ENVIRONMENT_NAME = "environment.json"
PACKAGES = ("torch", "torchvision", "deepspeed", "timm", "transformers", "torchjd", "webdataset", "numpy",
            "opencv-python-headless", "pycocotools", "wandb")

_PROJECT_ROOT = Path(ufo_ds.__file__).resolve().parents[1]


def write_environment(run_dir: Path, command: str | Sequence[str], *, gpus: Sequence[str] = (),
                      world_size: int = 1, resumed: bool = False) -> None:
    """Write `RUN/environment.json` atomically.

    Args:
        run_dir: the run directory, which exists.
        command: the command line, as one text or as words (`sys.argv`).
        gpus: names of the GPUs of this rank's machine.
        world_size: number of ranks.
        resumed: keep what the earlier starts of the run wrote, under `earlier`, oldest first.
    """
    path = run_dir / ENVIRONMENT_NAME
    found = describe_environment(command, gpus=gpus, world_size=world_size)
    if resumed and path.exists():
        # A record that cannot be read is no reason to keep a run from going on.
        with contextlib.suppress(ValueError):
            before = json.loads(path.read_text(encoding="utf-8"))
            found["earlier"] = [*before.pop("earlier", []), before]
    replace_file(path, json.dumps(found, indent=1) + "\n")


def describe_environment(command: str | Sequence[str], *, gpus: Sequence[str] = (),
                         world_size: int = 1) -> dict[str, Any]:
    """The object of `environment.json`; arguments as of `write_environment`."""
    revision, dirty = _git_state()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": without_secrets(command if isinstance(command, str) else shlex.join(command)),
        "git": {"revision": revision, "dirty": dirty},
        "world_size": world_size,
        "gpus": list(gpus),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), "ufo_ds": ufo_ds.__version__,
                     **{name: _version(name) for name in PACKAGES}},
    }


def _version(package: str) -> str | None:
    # OpenCV comes in two packages with the same content.
    for name in (package, package.removesuffix("-headless")):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _git_state() -> tuple[str | None, bool | None]:
    """Revision of this checkout and whether tracked files were changed; (None, None) outside of one."""
    top = _git("rev-parse", "--show-toplevel")
    # An installed package may lie inside a checkout of something else, whose revision would mislead.
    if top is None or Path(top).resolve() != _PROJECT_ROOT:
        return None, None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return _git("rev-parse", "HEAD"), None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_PROJECT_ROOT), *arguments], capture_output=True, text=True,
                              timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
