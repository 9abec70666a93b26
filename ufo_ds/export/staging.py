"""A folder that appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ufo_ds.assembly import CONFIG
from ufo_ds.data.schema import TASKS
from ufo_ds.errors import UserError, reason_of


class Staging:
    """A context that hands out a hidden folder beside `out` and, where nothing was raised, puts it in its place.

    Where `out` is there already, its files are replaced one by one, the config last, and ONNX files that the new export
    does not have are removed; other files are left alone.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.out, whole = out, out.resolve()
        self.folder = whole.with_name(f".{whole.name}.partial")

    def __enter__(self) -> Path:
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"--out {self.out}: not a folder; choose another")
        try:
            shutil.rmtree(self.folder, ignore_errors=True)  # of an export that was killed
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise self._cannot(error) from None
        return self.folder

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._put_in_place()
        except OSError as error:
            raise self._cannot(error) from None
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _put_in_place(self) -> None:
        if not self.out.exists():
            os.replace(self.folder, self.out.resolve())
            return
        names = {path.name for path in self.folder.iterdir()}
        for name in sorted(names, key=lambda name: (name == CONFIG, name)):
            os.replace(self.folder / name, self.out / name)
        for stale in {f"{task}.onnx{end}" for task in TASKS for end in ("", ".data")} - names:
            (self.out / stale).unlink(missing_ok=True)

    def _cannot(self, error: OSError) -> UserError:
        return UserError(f"--out {self.out}: cannot be written ({reason_of(error)}); make room or choose another place")
