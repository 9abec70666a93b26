"""Detection as COCO has it: JSON files of annotations, and the folders of images that they speak of.

The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from pathlib import Path

from shards.layouts import Boxes, SplitPlan, TaskPlan
from shards.layouts.coco import CocoFile, read_coco
from shards.layouts.files import Folder, relative_name
from shards.layouts.pool import Pool
from shards.layouts.splits import FOLDER_NAMES, finish, unwrap
from ufo_ds.data.schema import ClassInfo
from ufo_ds.errors import UserError

EXPECTS = (
    "annotations/instances_{train,val}*.json beside folders of images of those names, or {train,valid,test}/"
    "_annotations.coco.json beside the images"
)
JSONS = (
    "annotations/instances_{}*.json", "annotations/{}*.json", "annotations/image_info_{}*.json", "{}*.json",
    "{}/_annotations.coco.json", "{}/annotations.json",
)  # fmt: skip
"""Where the JSON of a split may stand, `{}` being one of its names."""
UNDIVIDED = ("annotations/instances_default.json", "annotations.json", "annotations/*.json", "_annotations.coco.json",
             "*.json")  # fmt: skip
"""Where the only JSON may stand, where there is none for train."""
_TRIED = 20


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The images and boxes under `raw`; None for another task than `det`, or without a JSON."""
    if task != "det":
        return None
    raw = unwrap(raw, lambda path: bool(_find_jsons(path)))
    jsons = _find_jsons(raw)
    if not jsons:
        return None
    divided = "" in jsons
    if divided:
        jsons = {"train": jsons[""]}
    files = {split: _read(split, path) for split, path in jsons.items()}
    classes = _join_classes(files)
    splits = _share_out(raw, files)
    if not any(boxes.annotations for boxes in files["train"].boxes.values()):
        raise UserError(f"{files['train'].path}: none of its images has an annotation; image_id must be an image's id")
    if "test" not in splits and (test := _unlisted_test(raw)):
        splits["test"] = test
    return finish(TaskPlan("det", "coco", classes, splits), divided)


def _find_jsons(raw: Path) -> dict[str, Path]:
    """The JSON of each split, or the only one under ""."""
    found: dict[str, Path] = {}
    for split, names in FOLDER_NAMES.items():
        spelled = [form for name in names for form in (name, name.capitalize(), name.upper())]
        there = {path for name in spelled for pattern in JSONS for path in raw.glob(pattern.format(name))}
        there = sorted(path for path in there if "test-dev" not in path.name)  # COCO's, beside the whole of test
        if len(there) > 1:
            raise UserError(f"{there[1]}: stands beside {there[0].name}; both mean the {split} split, keep one")
        if there:
            found[split] = there[0]
    if "train" in found:
        return found
    if "val" in found:
        raise UserError(f"{found['val']}: there is no such file for train; name it instances_train.json")
    for pattern in UNDIVIDED:
        there = [path for path in sorted(raw.glob(pattern)) if path not in found.values()]
        if len(there) == 1:
            return {"": there[0], **found}
    return {}


def _read(split: str, path: Path) -> CocoFile:
    def no_categories(_: list[dict]) -> list[ClassInfo]:
        raise UserError(f"{path}: categories is missing; list the classes with their ids")

    return read_coco(path, no_categories, relative_name, labelled=split != "test")


def _join_classes(files: dict[str, CocoFile]) -> list[ClassInfo]:
    """The categories of all files; a file need not list those that it does not use."""
    classes: dict[int, ClassInfo] = {}
    for coco in files.values():
        for item in coco.classes:
            if classes.setdefault(item.id, item) != item:
                problem = f"category {item.id} is {item.name!r}, but {classes[item.id].name!r} in the train split's"
                raise UserError(f"{coco.path}: {problem}; make them agree")
    return [classes[class_id] for class_id in sorted(classes)]


# ---- images ----


def _share_out(raw: Path, files: dict[str, CocoFile]) -> dict[str, SplitPlan]:
    """The plan of each split; images that no file lists are rejected in the first split of their folder."""
    bases = {split: _base_of(raw, split, coco) for split, coco in files.items()}
    pools = {base: Pool(_gather(raw, base, files)) for base in bases.values()}
    splits = {}
    for split, coco in files.items():
        labelled = split != "test" or any(boxes.annotations for boxes in coco.boxes.values())
        boxes = coco.boxes if labelled else {name: Boxes(item.image_id) for name, item in coco.boxes.items()}
        splits[split] = pools[bases[split]].take(split, boxes, coco.faults, labelled, coco.unmatched)
    for base, pool in pools.items():
        first = next(split for split in bases if bases[split] == base)
        pool.leave(splits[first], "not listed in " + ", ".join(files[s].path.name for s in bases if bases[s] == base))
    return splits


def _base_of(raw: Path, split: str, coco: CocoFile) -> Path:
    """The folder from which a file's names lead to images."""
    own = coco.path.stem.removeprefix("instances_").removeprefix("image_info_")
    folders = [name for stem in (own, *FOLDER_NAMES[split]) for name in (stem, f"images/{stem}", f"{stem}/images")]
    candidates = [raw / name for name in folders] + [coco.path.parent, coco.path.parent / "images", raw / "images", raw]
    names = list(coco.boxes)
    for tried in (names[:_TRIED], names[_TRIED:]):
        for base in candidates:
            if any((base / name).is_file() for name in tried):
                return base
    if not names:
        raise UserError(f"{coco.path}: images is empty; list the images of the {split} split")
    places = ", ".join(dict.fromkeys(str(base.relative_to(raw)) for base in candidates if base.is_dir()))
    raise UserError(f"{coco.path}: no image {names[0]!r:.100} in {raw} (looked in {places}); put the images there")


def _gather(raw: Path, base: Path, files: dict[str, CocoFile]) -> Folder:
    """The entries of a folder of images, without the annotations; of `raw` itself, only what a name leads to."""
    folder = Folder(base, deep=True)
    tops = {name.partition("/")[0] for coco in files.values() for name in coco.boxes if "/" in name}
    jsons = {coco.path for coco in files.values()}
    for name in folder.names:
        elsewhere = base == raw and "/" in name and name.partition("/")[0] not in tops
        paper = base == raw and "/" not in name and name in folder.rejected
        if elsewhere or paper or base / name in jsons:
            folder.forget(name)
    return folder


def _unlisted_test(raw: Path) -> SplitPlan | None:
    """Test images without a JSON: their image ids count the names from 1."""
    folders = [raw / place for name in FOLDER_NAMES["test"] for place in (name, f"images/{name}", f"{name}/images")]
    for path in [*folders, *sorted(raw.glob("test20[0-9][0-9]"))]:
        if path.is_dir():
            folder = Folder(path)
            return Pool(folder).take("test", {name: Boxes(n) for n, name in enumerate(folder.names, 1)}, labelled=False)
    return None
