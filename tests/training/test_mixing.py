"""Mixing depends on the number of the batch, leaves the training generator alone, and ends before the closing steps."""

import dataclasses

import torch

from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.recipe import ClsConfig, Recipe, SegConfig
from ufo_ds.recipe.plain import STRONG, closing_step, plain
from ufo_ds.training.mixing import Mixer

METAS = {name: TaskMeta(name, "test", [ClassInfo(i, str(i)) for i in range(3)], {}) for name in ("cls", "seg")}


def recipe(steps=10, accumulate=1, close_augment=0.0, **cls):
    made = Recipe()
    made.train.steps, made.train.accumulate, made.train.close_augment = steps, accumulate, close_augment
    made.tasks.cls = ClsConfig(**cls)
    return made


def batch(task="cls"):
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Batch(task, images, torch.tensor([0, 1, 2, 1]), [{}] * 4)


def test_a_batch_is_mixed_by_its_number_rank_and_seed_alone():
    mixer = Mixer(recipe(mixup=0.5, cutmix=0.5), METAS, 0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    found = [mixer(batch(), number) for number in (0, 1, 2, 3)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = Mixer(recipe(mixup=0.5, cutmix=0.5), METAS, 0)(batch(), 2)
    assert torch.equal(again.images, found[2].images) and torch.equal(again.targets, found[2].targets)
    assert len({str(one.targets) for one in found}) == 4
    assert not torch.equal(Mixer(recipe(mixup=0.5, cutmix=0.5), METAS, 1)(batch(), 2).targets, again.targets)


def test_the_closing_micro_batches_and_other_tasks_are_left_alone():
    mixer = Mixer(recipe(steps=10, accumulate=3, close_augment=0.2, mixup=0.5), METAS, 0)
    assert mixer(batch(), 23).targets.ndim == 2
    given = batch()
    assert mixer(given, 24) is given
    given = batch("seg")
    assert mixer(given, 0) is given
    given = batch()
    assert Mixer(recipe(), METAS, 0)(given, 0) is given


def test_plain_switches_the_strong_keys_to_their_defaults_and_keeps_the_others():
    for config in (ClsConfig, SegConfig):
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        assert all(defaults[key] == off for key, off in STRONG[config].items())
    strong = ClsConfig(batch=7, mixup=0.2, cutmix=1.0, auto_augment="augmix", random_erasing=0.3, hue_jitter=0.1)
    assert plain(strong) == ClsConfig(batch=7, hue_jitter=0.1)
    assert closing_step(recipe(10, close_augment=0.26).train) == 7 and closing_step(recipe(10).train) == 10
