"""Which of TT100K's classes a build takes."""

from __future__ import annotations

from collections import Counter

from ufo_ds.data.schema import ClassInfo
from ufo_ds.errors import UserError, listed, shown

OPTION = "45 (the paper's, by default), all, min:N (with at least N boxes in train and test), or names with commas"
PAPER = (
    "i2", "i4", "i5", "il100", "il60", "il80", "io", "ip", "p10", "p11", "p12", "p19", "p23", "p26", "p27",
    "p3", "p5", "p6", "pg", "ph4", "ph4.5", "ph5", "pl100", "pl120", "pl20", "pl30", "pl40", "pl5", "pl50",
    "pl60", "pl70", "pl80", "pm20", "pm30", "pm55", "pn", "pne", "po", "pr40", "w13", "w32", "w55", "w57",
    "w59", "wo",
)  # fmt: skip
"""The 45 with at least 100 instances (Zhu et al., CVPR 2016, section 4.2)."""
PAPER_LEAST = 100
_SHOWN = 8


def choose_classes(choice: str, counts: Counter[str], types: list[str]) -> list[ClassInfo]:
    """The classes of a choice, with ids from 1 in the order of their names.

    Args:
        choice: as `OPTION` says.
        counts: boxes by class, of train and test.
        types: names of all classes.

    Raises:
        UserError: the choice cannot be read, names an unknown class, or is empty.
    """
    option = f"--layout-option classes={choice}"
    if choice == "45":
        names = list(PAPER) if any(counts[name] for name in PAPER) else []
    elif choice == "all":
        names = types
    elif choice.startswith("min:"):
        names = [name for name in types if counts[name] >= _least(choice, option)]
    else:
        names = [name.strip() for name in choice.split(",")]
        if unknown := [name for name in names if name not in types]:
            raise UserError(f"{option}: {shown(unknown[0])} is none of the types of the annotations; it takes {OPTION}")
    if not names:
        raise UserError(f"{option}: there is no box of such a class; try classes=all")
    return [ClassInfo(number, name) for number, name in enumerate(sorted(set(names)), start=1)]


def _least(choice: str, option: str) -> int:
    number = choice.removeprefix("min:")
    if not (number.isascii() and number.isdecimal() and 0 < len(number) < 10):
        raise UserError(f"{option}: N must be a whole number from 0 up")
    return int(number)


def class_notes(choice: str, counts: Counter[str]) -> list[str]:
    """A line where the paper's 45 are not the classes with at least 100 boxes of this download."""
    frequent = {name for name, count in counts.items() if count >= PAPER_LEAST}
    if choice != "45" or frequent == set(PAPER):
        return []
    lacking, beyond = sorted(set(PAPER) - frequent), sorted(frequent - set(PAPER))
    parts = [f"{len(frequent)} classes have at least {PAPER_LEAST} boxes in train and test"]
    parts += [f"of the 45 not {listed(lacking, _SHOWN)}"] if lacking else []
    parts += [f"beyond them {listed(beyond, _SHOWN)}"] if beyond else []
    return [f"det: classes=45 takes the paper's, but here {', '.join(parts)}; classes=min:{PAPER_LEAST} takes those"]
