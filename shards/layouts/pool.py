"""A folder of images that the splits draw from: every entry belongs to exactly one of them, or is rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shards.layouts import Label, Sample, SplitPlan
from shards.layouts.files import Folder
from ufo_ds.data.schema import Rejection, Unmatched


class Pool:
    """The entries of a folder, each taken once at most."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._owners: dict[str, str] = {}

    def take(
        self,
        split: str,
        labels: Mapping[str, Label],
        faults: Mapping[str, str] | None = None,
        labelled: bool = True,
        unmatched: list[Unmatched] | None = None,
        entry_of: Callable[[str], str] = lambda name: name,
    ) -> SplitPlan:
        """A split of these images, in this order.

        Args:
            split: its name.
            labels: by file name.
            faults: why one of them cannot be used, by file name.
            labelled: whether the samples have labels.
            unmatched: label entries that are known to have no image.
            entry_of: what to call the entry of a file name that has no image.
        """
        plan, faults = SplitPlan(labelled, unmatched=list(unmatched or ())), faults or {}
        for name, label in labels.items():
            if name in self._owners:
                plan.unmatched.append(Unmatched(entry_of(name), f"is in the {self._owners[name]} split already"))
                continue
            if name not in self.folder:
                plan.unmatched.append(Unmatched(entry_of(name), "no such image file"))
                continue
            self._owners[name] = split
            if name in self.folder.rejected:
                plan.rejected.append(self.folder.rejected[name])
            elif name in faults:
                plan.rejected.append(Rejection(name, faults[name]))
            else:
                image = self.folder.images[name]
                plan.samples.append(Sample(image, label, name if name != image.path.name else ""))
        return plan

    def leave(self, plan: SplitPlan, reason: str) -> None:
        """Reject what no split has taken, in `plan`: images for `reason`, other entries for their own."""
        rest = {name: Rejection(name, reason) for name in self.folder.images} | self.folder.rejected
        plan.rejected += [rejection for name, rejection in rest.items() if name not in self._owners]
        self._owners.update(dict.fromkeys(rest, "no"))


def plan_listed(
    folder: Folder,
    labels: Mapping[str, Label],
    faults: Mapping[str, str],
    unlisted: str,
    labelled: bool = True,
    unmatched: list[Unmatched] | None = None,
    entry_of: Callable[[str], str] = lambda name: name,
) -> SplitPlan:
    """A split that is a folder with a list of its own; `unlisted` is said of images that are not in it."""
    pool = Pool(folder)
    plan = pool.take("", labels, faults, labelled, unmatched, entry_of)
    pool.leave(plan, unlisted)
    return plan


def plan_unlabelled(folder: Folder) -> SplitPlan:
    """The images of a folder, without labels."""
    return Pool(folder).take("test", dict.fromkeys(folder.names), labelled=False)
