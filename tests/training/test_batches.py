"""Batches that a small data set can fill."""

import pytest

from ufo_ds.command_line import read_recipe, write_recipe
from ufo_ds.data.schema import ClassInfo, ShardInfo, SplitMeta, TaskMeta
from ufo_ds.recipe import Recipe
from ufo_ds.training.batches import fit_batches


def meta_of(task, samples):
    shards = [ShardInfo("train-000000.tar", samples, 1, "0" * 64)]
    return TaskMeta(task, "x", [ClassInfo(0, "a")], {"train": SplitMeta(True, samples, samples, shards, [], [])})


@pytest.mark.parametrize(("samples", "world", "batch"), [(64, 4, 16), (63, 4, 15), (7, 1, 7), (7, 2, 3), (3, 4, 1)])
def test_a_batch_is_lowered_where_a_step_would_take_more(samples, world, batch):
    recipe = Recipe()
    assert recipe.tasks.cls.batch == 16
    notes = fit_batches(recipe, {"cls": meta_of("cls", samples), "det": meta_of("det", 1000)}, world)
    assert (recipe.tasks.cls.batch, recipe.tasks.det.batch) == (batch, 2)
    assert len(notes) == (batch < 16) and all(f"tasks.cls.batch is {batch} in this run" in note for note in notes)
    assert fit_batches(recipe, {"cls": meta_of("cls", samples)}, world) == []


@pytest.mark.parametrize(("samples", "kept"), [(2, 0.0), (4, 0.4)])
def test_a_batch_of_one_is_not_mixed(samples, kept, tmp_path):
    recipe = Recipe()
    recipe.tasks.cls.mixup = 0.4
    notes = fit_batches(recipe, {"cls": meta_of("cls", samples)}, 2)
    assert recipe.tasks.cls.mixup == kept and recipe.tasks.cls.batch == samples // 2
    assert ("cls: a batch of 1 is not mixed: mixup 0 in this run" in notes) == (not kept)
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
