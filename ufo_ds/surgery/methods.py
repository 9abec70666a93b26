"""The weightings by their names in a recipe."""

from __future__ import annotations

from ufo_ds.errors import UserError
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.gram_weightings import GRAM_METHODS, GradVacWeighting, GramWeighting
from ufo_ds.surgery.loss_weightings import LOSS_METHODS
from ufo_ds.surgery.weighting import Weighting


def make_weighting(config: SurgeryConfig, tasks: list[str]) -> Weighting:
    """The weighting that `surgery.method` names.

    Raises:
        UserError: no such method, an option that does not fit, or a solver that is not installed.
    """
    method = config.method
    if method in LOSS_METHODS:
        return LOSS_METHODS[method](config, tasks)
    if method in GRAM_METHODS:
        return (GradVacWeighting if method == "gradvac" else GramWeighting)(config, len(tasks))
    raise UserError(f"key 'surgery.method' is '{method}'; it may be {', '.join([*GRAM_METHODS, *LOSS_METHODS])}")
