"""The lines that a run begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ufo_ds.assembly import count_parameters
from ufo_ds.model.joint import JointModel
from ufo_ds.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    from ufo_ds.training.session import Session


def announce(
    session: Session,
    model: JointModel,
    threads: int,
    found: dict[str, list[str]] | None,
    checkpoint: Checkpoint | None,
) -> None:
    """Say what runs, on what, from where.

    Args:
        session: about to begin.
        model: the joint model.
        threads: CPU threads a rank.
        found: what a folder of weights brought, as of `load_fitting`; None: there was none.
        checkpoint: that it goes on from.
    """
    recipe, note = session.recipe, session.tracker.note
    batches = ", ".join(f"{name} {getattr(recipe.tasks, name).batch}" for name in session.tasks)
    own = sum(parameter.numel() for parameter in model.trunk.own_parameters())
    copies = f"{own / 1e6:.1f} M in copies of single tasks, " if own else ""
    note(
        f"{recipe.model.trunk}: {(count_parameters(model.trunk) - own) / 1e6:.1f} M shared, {copies}"
        f"{count_parameters(model.heads) / 1e6:.1f} M in {len(session.tasks)} heads; {session.ranks.world} rank(s) of "
        f"{threads} thread(s) on {session.device.type}; batch a rank: {batches}"
        f"{f' x {recipe.train.accumulate}' if recipe.train.accumulate > 1 else ''}; {recipe.train.precision}; "
        f"surgery {recipe.surgery.method}"
    )
    if checkpoint:
        note(f"resumed from {checkpoint.path}")
    unseen = [name for name in session.tasks if name not in session.evaluator.sets]
    if unseen:
        note(f"no labelled val split, so not evaluated: {', '.join(unseen)}")
    if found:
        note(f"from the weights: {', '.join(found['taken'])} whole")
        if found["remade"]:
            note(f"made anew, for other classes or shapes: {', '.join(found['remade'])}")
        if found["absent"]:
            note(f"made anew, not in the weights: {', '.join(found['absent'])}")
