"""Detection as Pascal VOC has it: an XML file an image, its folders and lists, and how others lay these files out.

The official description: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from shards.layouts import Boxes, SplitPlan, TaskPlan
from shards.layouts.files import Folder, forget_papers, read_class_names, stem_of
from shards.layouts.pool import Pool
from shards.layouts.splits import find_folders, finish, need_train, unwrap
from shards.layouts.voc_lists import complete, read_lists
from shards.layouts.voc_xml import Annotations, list_xml, number_classes, read_annotations
from ufo_ds.data.schema import Unmatched
from ufo_ds.errors import UserError

EXPECTS = "Pascal VOC's folders Annotations/ and JPEGImages/, or XML files beside the images, in train/ and val/ too"
IMAGE_FOLDERS = ("JPEGImages", "images")
XML_FOLDERS = ("Annotations", "annotations")
LISTS = "ImageSets/Main"


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The images and boxes under `raw`; None for another task than `det`, or without images that have XML files."""
    if task != "det":
        return None
    raw = unwrap(raw, lambda path: bool(_places(path)))
    places = _places(raw)
    if not places:
        return None
    if "" not in places:
        need_train(raw, places)
    known = {xmls: read_annotations(xmls) for xmls in dict.fromkeys(xmls for _, xmls in places.values())}
    for split, (images, xmls) in places.items():
        if split != "test" and not known[xmls].stems:
            raise UserError(f"{xmls}: holds no XML file; it must hold an annotation for each image of {images}")
    classes = number_classes(known.values(), read_class_names(raw / "classes.txt"))
    if not classes:
        count = sum(len(part.stems) for part in known.values())
        raise UserError(f"{raw}: none of its {count} XML files has an object; name the classes in classes.txt")
    divided = False
    if "" in places:
        images, xmls = places[""]
        splits, divided = _plan_lists(_folder(images, xmls), known[xmls], read_lists(raw / LISTS))
    else:
        splits = _plan_folders(places, known)
    return finish(TaskPlan("det", "voc", classes, splits), divided)


# ---- places ----


def _places(raw: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and of XML by split, or the only ones under ""; empty where there is no XML."""
    images, xmls = _first(raw, IMAGE_FOLDERS), _first(raw, XML_FOLDERS)
    inner = find_folders(images) if images else {}
    if images and inner:
        shared = xmls is not None and bool(list_xml(xmls))
        found = {split: (path, xmls if shared else xmls / path.name if xmls else path) for split, path in inner.items()}
    elif images and xmls:
        return {"": (images, xmls)}
    else:
        found = {split: _pair(path) for split, path in find_folders(raw).items()} or {"": _pair(raw)}
    return found if any(list_xml(xmls) for _, xmls in found.values()) else {}


def _pair(folder: Path) -> tuple[Path, Path]:
    """Where in a folder images and XML lie: in two folders, or beside one another."""
    images = _first(folder, IMAGE_FOLDERS) or folder
    return images, _first(folder, XML_FOLDERS) or images


def _first(raw: Path, names: tuple[str, ...]) -> Path | None:
    return next((raw / name for name in names if (raw / name).is_dir()), None)


def _folder(images: Path, xmls: Path) -> Folder:
    folder = Folder(images)
    if xmls == images and any(name.lower().endswith(".xml") for name in folder.rejected):
        forget_papers(folder)  # the XML is among them
    return folder


# ---- splits ----


def _plan_lists(folder: Folder, known: Annotations, given: dict[str, list[str]]) -> tuple[dict[str, SplitPlan], bool]:
    """Splits by lists of stems; and whether train is yet to be divided."""
    pool = Pool(folder)
    names = _by_stem(folder)
    lists, divided = complete(given, sorted({*names, *known.stems}))
    splits = {split: _take(pool, split, stems, names, known) for split, stems in lists.items()}
    listed = {stem for stems in lists.values() for stem in stems}
    splits["train"].unmatched += _without_image(known.stems - names.keys() - listed)
    pool.leave(splits["train"], f"in none of the lists of {LISTS}")
    return splits, divided


def _plan_folders(places: dict[str, tuple[Path, Path]], known: dict[Path, Annotations]) -> dict[str, SplitPlan]:
    """Splits that are folders; those that share one of XML find their own in it."""
    splits: dict[str, SplitPlan] = {}
    owners: dict[Path, str] = {}
    lost = {xmls: annotations.stems for xmls, annotations in known.items()}
    for split, (images, xmls) in places.items():
        folder = _folder(images, xmls)
        names = _by_stem(folder)
        splits[split] = _take(Pool(folder), split, sorted(names), names, known[xmls])
        owners.setdefault(xmls, split)
        lost[xmls] = lost[xmls] - names.keys()
    for xmls, split in owners.items():
        splits[split].unmatched += _without_image(lost[xmls])
    return splits


def _by_stem(folder: Folder) -> dict[str, str]:
    """Names of the entries; of two with one stem, the usable image's."""
    return {stem_of(name): name for name in (*folder.rejected, *folder.images)}


def _without_image(stems: Iterable[str]) -> list[Unmatched]:
    return [Unmatched(f"{stem}.xml", "no such image file") for stem in sorted(stems)]


def _take(pool: Pool, split: str, stems: list[str], names: dict[str, str], known: Annotations) -> SplitPlan:
    """Image ids are places among the stems, from 1."""
    labelled = split != "test" or not known.stems.isdisjoint(stems)
    labels, faults = {}, {}
    for number, stem in enumerate(stems, start=1):
        name = names.get(stem, f"{stem}.jpg")
        labels[name] = replace(known.boxes[stem], image_id=number) if stem in known.boxes else Boxes(number)
        if labelled and stem not in known.boxes:
            faults[name] = known.faults.get(stem, f"no annotation {stem}.xml")
    return pool.take(split, labels, faults, labelled)
