"""Reading folders of images, lists and class files: what most raw layouts are made of."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.layouts import Source
from ufo_ds.data.schema import IMAGE_EXTENSIONS, ClassInfo, Rejection, is_inside
from ufo_ds.errors import UserError, shown
from ufo_ds.files import read_text

MAX_FILE_BYTES = 256 * 2**20
"""A larger image file is rejected unread."""


class Folder:
    """The entries of a folder.

    Attributes:
        path: of the folder.
        images: usable image files by name, ascending. Links to files are followed, links to folders are not.
        rejected: the entries that are no usable image, each with its reason, by name.

    Args:
        path: of the folder.
        extensions: that an image may have.
        deep: whether folders in it are entered; a name is then a path from `path`, with slashes.
    """

    def __init__(self, path: Path, extensions: tuple[str, ...] = IMAGE_EXTENSIONS, deep: bool = False) -> None:
        self.path = path
        self.images: dict[str, Source] = {}
        self.rejected: dict[str, Rejection] = {}
        for name, entry in _entries(path, "", deep):
            try:
                self.images[name] = _examine(entry, extensions, deep)
            except ValueError as reason:
                self.reject(name, str(reason))
        self._reject_twins()

    def reject(self, name: str, reason: str) -> None:
        """Move an entry to the rejected ones."""
        self.images.pop(name, None)
        self.rejected[name] = Rejection(name, reason)

    def forget(self, name: str) -> None:
        """Pass over an entry."""
        self.images.pop(name, None)
        self.rejected.pop(name, None)

    @property
    def names(self) -> list[str]:
        """Of all its entries, usable or not, ascending."""
        return sorted((*self.images, *self.rejected))

    def __contains__(self, name: str) -> bool:
        return name in self.images or name in self.rejected

    def _reject_twins(self) -> None:
        """Reject images that differ in nothing but the extension: their keys would be one and the same."""
        by_stem: dict[str, list[str]] = {}
        for name in self.images:
            by_stem.setdefault(stem_of(name), []).append(name)
        for twins in by_stem.values():
            for name in twins if len(twins) > 1 else ():
                others = ", ".join(other for other in twins if other != name)
                self.reject(name, f"same stem as {others}: a split needs distinct stems")


Folders = dict[str, Folder]
"""The image folders that there are, by split."""


def _entries(folder: Path, prefix: str, deep: bool) -> Iterator[tuple[str, Path]]:
    """(name, path) of what a folder holds, ascending; `deep`: of what its folders hold, hidden ones and links aside."""
    try:
        entries = sorted(folder.iterdir(), key=lambda item: item.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); mend the rights") from None
    for entry in entries:
        name = prefix + entry.name
        if deep and not is_hidden(entry) and entry.is_dir() and not entry.is_symlink():
            yield from _entries(entry, f"{name}/", deep)
        else:
            yield name, entry


def is_hidden(path: Path) -> bool:
    """Whether nobody sees it in a folder: a system's or a tool's own."""
    return path.name.startswith((".", "__MACOSX"))


def stem_of(name: str) -> str:
    """A name without its extension; folders in front stay."""
    return name.removesuffix(Path(name).suffix)


def forget_papers(folder: Folder) -> None:
    """What lies beside the folders of images and is none: a readme, a list of the classes, a licence."""
    for name in [name for name in folder.rejected if "/" not in name]:
        if Path(name).suffix[1:].lower() not in IMAGE_EXTENSIONS:
            del folder.rejected[name]


def source(path: Path) -> Source:
    """A file with its size and time."""
    status = path.stat()
    return Source(path, status.st_size, status.st_mtime_ns)


def _examine(entry: Path, extensions: tuple[str, ...], deep: bool) -> Source:
    """The file behind a folder entry. `ValueError` says why it is not a usable image file."""
    try:
        status = entry.stat()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        where = "hidden ones and links are not entered" if deep else "images must lie directly in the split's folder"
        raise ValueError(f"a folder: {where}")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if entry.suffix[1:].lower() not in extensions:
        raise ValueError(f"not an image file by its extension ({', '.join(extensions)})")
    if "\\" in entry.name:  # a folder, to other systems
        raise ValueError("a backslash in its name: rename it")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return Source(entry, status.st_size, status.st_mtime_ns)


def plain_name(name: Any, where: str) -> str:
    """`name` if it is a bare file name; with a folder, `..` or an absolute path, a `UserError` at `where`."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        raise UserError(f"{where}: {shown(name, 100)} is not a bare file name; write it without folders")
    return name


def relative_name(name: Any, where: str) -> str:
    """`name`, a path from its folder with slashes; a `UserError` at `where` if it leads out of there."""
    if isinstance(name, str):
        name = name.replace("\\", "/").removeprefix("./")
    if not isinstance(name, str) or not is_inside(name):
        raise UserError(f"{where}: {shown(name, 100)} is no path inside the raw folder; write it without '..'")
    return name


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The non-blank lines of a text file, stripped, each with its 1-based number."""
    try:
        # The escapes keep file names that are not UTF-8 the way the operating system's listing has them.
        text = read_text(path, "latin-1").encode("latin-1").decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it must be text, an entry a line") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}; it must be text, an entry a line") from None
    # Not splitlines(): that would also break at characters which may stand in a file name.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    try:
        return json.loads(read_text(path, "utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it must list the images") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: malformed JSON ({error})") from None


def read_class_names(path: Path) -> list[ClassInfo] | None:
    """The classes of a file with one name a line, ids counting from 0; None where there is no such file."""
    if not path.exists():
        return None
    names: list[ClassInfo] = []
    for number, name in read_lines(path):
        if number != len(names) + 1:
            raise UserError(f"{path}:{number - 1}: a blank line, but the line makes the class id; remove it")
        if not name.isprintable():
            raise UserError(f"{path}:{number}: {name!r:.60} is not printable text in UTF-8")
        names.append(ClassInfo(number - 1, name))
    if not names:
        raise UserError(f"{path}: empty; write one class name a line, or remove it")
    return names
