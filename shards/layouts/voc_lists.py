"""VOC's lists of the images of a split, a text file each."""

from __future__ import annotations

import re
from pathlib import Path

from shards.layouts.files import plain_name, read_lines, stem_of
from shards.layouts.splits import split_of
from ufo_ds.data.schema import IMAGE_EXTENSIONS
from ufo_ds.errors import UserError


def read_lists(folder: Path) -> dict[str, list[str]]:
    """The stems of each list that there is; a line may have the 1, 0 or -1 of VOC's lists by class behind it."""
    lists: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.txt")):
        name = "trainval" if path.stem.lower() == "trainval" else split_of(path.stem)
        if name is None:
            continue
        if name in lists:
            raise UserError(f"{path}: stands beside another list of the {name} split; keep one")
        lists[name] = []
        for number, line in read_lines(path):
            entry = plain_name(re.sub(r"\s+-?[01]$", "", line), f"{path}:{number}")
            lists[name].append(stem_of(entry) if Path(entry).suffix[1:].lower() in IMAGE_EXTENSIONS else entry)
        if not lists[name]:
            raise UserError(f"{path}: empty; write a stem a line, or remove it")
    return {name: lists[name] for name in ("train", "val", "trainval", "test") if name in lists}


def complete(lists: dict[str, list[str]], everything: list[str]) -> tuple[dict[str, list[str]], bool]:
    """Lists of train, val and test, and whether train is yet to be divided: it is where there is no val either."""
    pool = lists.pop("trainval", everything)
    if "train" not in lists:
        elsewhere = {stem for stems in lists.values() for stem in stems}
        return {"train": [stem for stem in pool if stem not in elsewhere], **lists}, "val" not in lists
    return lists, False
