"""The classes of tars that bring none: from a file, from the splits taken in before, or from the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.foreign.samples import Taken
from shards.layouts.coco import is_count
from shards.layouts.files import read_json, read_lines
from ufo_ds.data.schema import IGNORE_ID, META_NAME, ClassInfo, TaskMeta
from ufo_ds.errors import UserError, shown

_WORD = {"cls": "class", "det": "category", "seg": "class"}


@dataclass(frozen=True)
class ClassSource:
    """A file of classes: `names` line by line, or `classes` where it gives the ids too (COCO)."""

    path: Path
    names: list[str]
    classes: list[ClassInfo] | None

    @classmethod
    def read(cls, path: Path, task: str) -> ClassSource:
        """Read names, or for det the `categories` of a JSON file.

        Raises:
            UserError: unreadable, empty, a name or an id twice.
        """
        if path.suffix.lower() == ".json":
            if task != "det":
                raise UserError(f"--classes {path}: COCO categories are for det; give a text file, a name a line")
            classes = _categories(path)
            return cls(path, [item.name for item in classes], classes)
        names = [line.strip() for _, line in read_lines(path)]
        if not names:
            raise UserError(f"--classes {path}: is empty; write a name a line")
        for name in names:
            if not name.isprintable():
                raise UserError(f"--classes {path}: {shown(name)} is not printable text; write a name a line")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"--classes {path}: {shown(twice)} is there twice; give every class a name of its own")
        if task == "seg" and len(names) > IGNORE_ID:
            raise UserError(f"--classes {path}: {len(names)} names, but a mask has room for {IGNORE_ID}")
        return cls(path, names, None)

    def numbered(self, start: int) -> list[ClassInfo]:
        """The classes, those without ids numbered from `start`."""
        return self.classes or [ClassInfo(number, name) for number, name in enumerate(self.names, start)]


def _categories(path: Path) -> list[ClassInfo]:
    value = read_json(path)
    items = value.get("categories") if isinstance(value, dict) else None
    if not isinstance(items, list) or not items:
        raise UserError(f"--classes {path}: categories is missing or empty; give a COCO JSON that has them")
    classes: dict[int, ClassInfo] = {}
    for number, item in enumerate(items):
        class_id, name = (item.get("id"), item.get("name")) if isinstance(item, dict) else (None, None)
        where = f"--classes {path}: categories[{number}]"
        if not is_count(class_id) or class_id in classes:
            raise UserError(f"{where}.id is {shown(class_id)}, not a whole number from 0 up of its own")
        if not isinstance(name, str) or not name or not name.isprintable():
            raise UserError(f"{where}.name is {shown(name)}, not a name in printable text")
        classes[class_id] = ClassInfo(class_id, name)
    return [classes[class_id] for class_id in sorted(classes)]


def choose_classes(task: str, given: ClassSource | None, kept: TaskMeta | None,
                   taken: Sequence[Taken]) -> tuple[list[ClassInfo], str]:  # fmt: skip
    """The classes of a split's task, and in words where they are from.

    Args:
        task: `cls`, `det` or `seg`.
        given: the user's file, or None.
        kept: the `meta.json` whose other splits stay, or None.
        taken: the tars of this split.

    Raises:
        UserError: file and `meta.json` contradict, or no label names a class.
    """
    used = sorted({i for part in taken for item in part.sound for i in item.facts.class_ids})
    if kept:
        start = kept.class_ids[0]
        if given and given.numbered(start) != kept.classes:
            problem = f"are not those of {META_NAME}, whose other splits stay"
            raise UserError(f"--classes {given.path}: {problem}; give the same, or remove that file and index all")
        return kept.classes, f"{task}: {kept.num_classes} classes from {META_NAME}, as in its other splits"
    if given:
        # Category ids count from 1 unless somebody uses 0, as in the raw layouts.
        start = 1 if task == "det" and 0 not in used else 0
        classes = given.numbered(start)
        return classes, f"{task}: {len(classes)} classes from {given.path}, ids {classes[0].id} to {classes[-1].id}"
    if not used:
        raise UserError(f"{task}: no label names a class; give --classes, or index the labelled splits first")
    if task == "seg":
        used = list(range(max(used) + 1))  # a mask's ids are the network's
    classes = [ClassInfo(i, f"{_WORD[task]} {i}") for i in used]
    return classes, f"{task}: {len(classes)} classes derived from the labels ({_brief(used)}); --classes gives names"


def _brief(ids: list[int]) -> str:
    return ", ".join(map(str, ids)) if len(ids) <= 8 else f"{ids[0]} to {ids[-1]}"
