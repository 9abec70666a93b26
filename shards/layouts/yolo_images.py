"""Where YOLO's data.yaml says that the images of a split lie: folders, and text files with a path a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shards.layouts.files import read_lines
from ufo_ds.errors import UserError, shown


@dataclass(frozen=True)
class Images:
    """The images of a split.

    Attributes:
        folders: all that is in them.
        files: what lists name.
        missing: lines of lists that name nothing here, such as `train.txt:7 images/0.jpg`.
    """

    folders: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def only_folder(self) -> Path | None:
        """The one folder that is all there is to it."""
        return self.folders[0] if len(self.folders) == 1 and not self.files and not self.missing else None

    @property
    def places(self) -> set[Path]:
        """The folders that images of the split lie in, or below."""
        return {*self.folders, *(path.parent for path in self.files)}


def find_images(value: Any, base: Any, raw: Path, where: str) -> Images | None:
    """What a split's value names in `raw`: folders and lists, one or several.

    Args:
        value: as data.yaml has it.
        base: its key `path`.
        raw: nothing is looked for outside.
        where: how an error names the key.

    Returns:
        None where the value is a folder that is not there.

    Raises:
        UserError: the value names no path, or a list that is not there or has none of its images here.
    """
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) and item.strip() and "\0" not in item for item in values):
        raise UserError(f"{where} is {shown(value, 60)}, not a folder of images or a list of them")
    folders: list[Path] = []
    files: list[Path] = []
    missing: list[str] = []
    for item in values:
        if item.endswith(".txt"):
            path = _first(_places(item, base, raw), Path.is_file)
            if path is None:
                raise UserError(f"{where} names the list {shown(item)}, which is not in {raw}; add it")
            _read_list(path, base, raw, files, missing)
        elif (path := _first(_places(item, base, raw), Path.is_dir)) is not None:
            folders.append(path / "images" if (path / "images").is_dir() else path)
    return Images(tuple(folders), tuple(dict.fromkeys(files)), tuple(missing)) if folders or files else None


def _read_list(path: Path, base: Any, raw: Path, files: list[Path], missing: list[str]) -> None:
    lost = []
    count = len(files)
    for number, line in read_lines(path):
        # Ultralytics reads a leading ./ from the list's folder, all else from where it was started.
        found = _first(_places(line, base, raw, path.parent), Path.is_file)
        if found is None:
            lost.append(f"{path.name}:{number} {line}")
        else:
            files.append(found)
    if len(files) == count:
        first = f", such as {shown(lost[0].partition(' ')[2])}" if lost else ""
        raise UserError(f"{path}: none of its {len(lost)} images is in {raw}{first}; write paths from there")
    missing += lost


def _places(text: str, base: Any, raw: Path, beside: Path | None = None) -> Iterator[Path]:
    """Where in `raw` a path may lie that speaks of another machine as a rule: what exists here is its end."""
    inner = _inside(text)
    if beside:
        yield beside / inner
    yield raw / (_inside(base) if isinstance(base, str) else PurePosixPath()) / inner
    for skip in range(len(inner.parts)):
        yield raw.joinpath(*inner.parts[skip:])


def _inside(text: str) -> PurePosixPath:
    """A path without what leads out of its folder."""
    parts = PurePosixPath(text.strip().replace("\\", "/")).parts
    return PurePosixPath(*[part for part in parts if part not in ("..", ".", "/", "//") and ":" not in part])


def _first(paths: Iterator[Path], is_right: Callable[[Path], bool]) -> Path | None:
    for path in paths:
        try:
            if is_right(path):
                return path
        except (OSError, ValueError):  # a name too long, or with a zero in it, is no file's
            continue
    return None
