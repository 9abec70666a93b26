"""Detection as Pascal VOC has it: Annotations/*.xml, JPEGImages, ImageSets/Main/{train,val,test}.txt.

The official description: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree.ElementTree import Element

from shards.layouts import Boxes, SplitPlan, TaskPlan
from shards.layouts.coco import is_finite
from shards.layouts.files import Folder, plain_name, read_class_names, read_lines, stem_of
from shards.layouts.pool import Pool
from shards.layouts.safe_xml import read_xml
from shards.layouts.splits import add_notes, hold_out, unwrap
from ufo_ds.data.schema import IMAGE_EXTENSIONS, ClassInfo, Unmatched
from ufo_ds.errors import UserError, shown

EXPECTS = "the folders Annotations/ and JPEGImages/ of Pascal VOC, and its lists in ImageSets/Main/"
IMAGE_FOLDERS = ("JPEGImages", "images")
XML_FOLDERS = ("Annotations", "annotations")
LISTS = "ImageSets/Main"


@dataclass
class Annotations:
    """What the XML files say.

    Attributes:
        classes: ids from 0.
        boxes: by stem, without an image id.
        faults: why an image cannot be used, by stem.
    """

    classes: list[ClassInfo] = field(default_factory=list)
    boxes: dict[str, Boxes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def __contains__(self, stem: str) -> bool:
        return stem in self.boxes or stem in self.faults


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The images and boxes under `raw`; None for another task than `det`, or without the two folders."""
    if task != "det":
        return None
    raw = unwrap(raw, lambda path: _first(path, IMAGE_FOLDERS) is not None)
    images, xmls = _first(raw, IMAGE_FOLDERS), _first(raw, XML_FOLDERS)
    if images is None or xmls is None:
        return None
    pool, known = Pool(Folder(images)), read_annotations(xmls, read_class_names(raw / "classes.txt"))
    names = {stem_of(name): name for name in (*pool.folder.rejected, *pool.folder.images)}
    lists, divided = _complete(_read_lists(raw / LISTS), sorted({*names, *known.boxes, *known.faults}))
    splits = {split: _plan_split(pool, split, stems, names, known) for split, stems in lists.items()}
    listed = {stem for stems in lists.values() for stem in stems}
    strays = sorted((known.boxes.keys() | known.faults.keys()) - names.keys() - listed)
    splits["train"].unmatched += [Unmatched(f"{stem}.xml", "no such image file") for stem in strays]
    pool.leave(splits["train"], f"in none of the lists of {LISTS}")
    if divided:
        splits = {**hold_out(splits.pop("train")), **splits}
    return add_notes(TaskPlan("det", "voc", known.classes, splits), divided)


def _first(raw: Path, names: tuple[str, ...]) -> Path | None:
    return next((raw / name for name in names if (raw / name).is_dir()), None)


# ---- splits ----


def _read_lists(folder: Path) -> dict[str, list[str]]:
    """The stems of each list that there is; a line may have the 1, 0 or -1 of VOC's lists by class behind it."""
    lists: dict[str, list[str]] = {}
    for name in ("train", "val", "trainval", "test"):
        path = folder / f"{name}.txt"
        if not path.exists():
            continue
        lists[name] = []
        for number, line in read_lines(path):
            entry = plain_name(re.sub(r"\s+-?[01]$", "", line), f"{path}:{number}")
            lists[name].append(stem_of(entry) if Path(entry).suffix[1:].lower() in IMAGE_EXTENSIONS else entry)
        if not lists[name]:
            raise UserError(f"{path}: empty; write a stem a line, or remove it")
    return lists


def _complete(lists: dict[str, list[str]], everything: list[str]) -> tuple[dict[str, list[str]], bool]:
    """Lists of train, val and test, and whether train is yet to be divided: it is where there is no val either."""
    pool = lists.pop("trainval", everything)
    if "train" not in lists:
        elsewhere = {stem for stems in lists.values() for stem in stems}
        return {"train": [stem for stem in pool if stem not in elsewhere], **lists}, "val" not in lists
    return lists, False


def _plan_split(pool: Pool, split: str, stems: list[str], names: dict[str, str], known: Annotations) -> SplitPlan:
    """Image ids are places in the list, from 1."""
    labelled = split != "test" or any(stem in known for stem in stems)
    labels, faults = {}, {}
    for number, stem in enumerate(stems, start=1):
        name = names.get(stem, f"{stem}.jpg")
        labels[name] = replace(known.boxes[stem], image_id=number) if stem in known.boxes else Boxes(number)
        if labelled and stem not in known.boxes:
            faults[name] = known.faults.get(stem, f"no annotation {stem}.xml")
    return pool.take(split, labels, faults, labelled)


# ---- annotations ----


def read_annotations(folder: Path, given: list[ClassInfo] | None) -> Annotations:
    """All XML files; classes are those given, or the names that occur, sorted."""
    found = Annotations(given or [])
    objects: dict[str, list[dict]] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".xml")
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); mend the rights") from None
    for path in paths:
        try:
            root = read_xml(path)
            objects[path.stem] = [_read_object(item, number) for number, item in enumerate(root.findall("object"))]
            found.boxes[path.stem] = Boxes(0, *_read_size(root))
        except ValueError as fault:
            found.faults[path.stem] = str(fault) if path.name in str(fault) else f"{path.name}: {fault}"
    if not paths:
        raise UserError(f"{folder}: holds no XML file; it must hold an annotation for each image")
    if not given:
        names = sorted({item["category_id"] for items in objects.values() for item in items})
        found.classes = [ClassInfo(number, name) for number, name in enumerate(names)]
    if not found.classes:
        raise UserError(f"{folder}: none of its {len(paths)} files has an object; name the classes in classes.txt")
    _number_classes(found, objects)
    return found


def _number_classes(found: Annotations, objects: dict[str, list[dict]]) -> None:
    ids = {item.name: item.id for item in found.classes}
    for stem, items in objects.items():
        unknown = [item["category_id"] for item in items if item["category_id"] not in ids]
        if unknown:
            del found.boxes[stem]
            found.faults[stem] = f"{stem}.xml: class {shown(unknown[0])} is not in classes.txt"
            continue
        annotations = [{**item, "category_id": ids[item["category_id"]]} for item in items]
        names = [f"{stem}.xml: object {number}" for number in range(1, len(items) + 1)]
        found.boxes[stem] = replace(found.boxes[stem], annotations=annotations, annotation_names=names)


def _read_size(root: Element) -> tuple[int | None, int | None]:
    """(width, height) as declared; None where not, or as 0, as some tools do."""
    sides = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    width, height = (int(side) if side.isascii() and side.isdigit() and len(side) < 10 else 0 for side in sides)
    return (width, height) if width and height else (None, None)


def _read_object(item: Element, number: int) -> dict:
    """An object as an annotation, its class still a name. `ValueError` says what is wrong.

    VOC's corners are pixels counted from 1, both inside the box: xmin 1, xmax 10 are the pixels 0 to 9.
    """
    name = (item.findtext("name") or "").strip()
    if not name or not name.isprintable():
        raise ValueError(f"object {number + 1}: name {shown(name)} is no name in printable text")
    try:
        corners = [float(item.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError:
        raise ValueError(f"object {number + 1} ({name:.40}): no bndbox of xmin, ymin, xmax, ymax") from None
    xmin, ymin, xmax, ymax = corners
    if not all(map(is_finite, corners)) or xmax < xmin or ymax < ymin:
        raise ValueError(f"object {number + 1} ({name:.40}): bndbox {shown(corners, 60)} has no area")
    bbox = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
    difficult = (item.findtext("difficult") or "0").strip() not in ("", "0", "false", "False")
    return {"bbox": bbox, "category_id": name, "iscrowd": int(difficult), "area": bbox[2] * bbox[3]}
