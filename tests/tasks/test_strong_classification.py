"""Strong augmentation of classification pictures, and mixing: uint8 throughout, torch alone draws, exact shares."""

import random

import cv2
import numpy as np
import pytest
import torch

from ufo_ds.data.batch import Batch
from ufo_ds.data.pixels import draw_jitter, uniform
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.model.features import Features, TrunkShape
from ufo_ds.recipe import ClsConfig
from ufo_ds.tasks.classification.examples import TrainTransform
from ufo_ds.tasks.classification.head import ClassificationHead
from ufo_ds.tasks.classification.mixing import Mixing, make_mixing
from ufo_ds.tasks.classification.strong import RandomErasing, make_strong

META = TaskMeta("cls", "test", [ClassInfo(i, f"class {i}") for i in range(5)], {})
POLICIES = ("randaugment", "autoaugment", "trivialaugment", "augmix")


def raw(size=(61, 103)):
    y, x = np.mgrid[: size[0], : size[1]]
    image = np.stack([40 + x, 60 + y, 200 - x], 2).astype(np.uint8)
    return RawSample("a.jpg", {"jpg": cv2.imencode(".png", image)[1].tobytes(), "cls": b"3"})


def drawn(config, seed):
    torch.manual_seed(seed)
    return TrainTransform(config, META)(raw()).image


# ---- one picture ----


@pytest.mark.parametrize("policy", [*POLICIES, None])
def test_strong_changes_keep_size_and_type_and_draw_from_torch_alone(policy):
    config = ClsConfig(size=(33, 47), auto_augment=policy, auto_augment_magnitude=17, random_erasing=0.5)
    bare = ClsConfig(size=(33, 47))
    changed = 0
    for seed in range(12):
        random.seed(seed), np.random.seed(seed)
        image = drawn(config, seed)
        assert image.dtype == torch.uint8 and image.shape == (3, 33, 47) and image.is_contiguous()
        random.seed(99), np.random.seed(99)
        assert torch.equal(image, drawn(config, seed))
        changed += not torch.equal(image, drawn(bare, seed))
    assert changed >= 4


def test_the_defaults_are_off_and_draw_nothing():
    assert make_strong(ClsConfig()) == [] and make_mixing(ClsConfig(), META) is None
    # What the defaults drew before there was a choice: brightness, contrast, saturation, hue, in this order.
    torch.manual_seed(4)
    expected = *(uniform(0.7, 1.3) for _ in range(3)), uniform(-0.3, 0.3) * 0.05
    state = torch.get_rng_state()
    torch.manual_seed(4)
    assert draw_jitter(ClsConfig().color_jitter, ClsConfig().hue_jitter, ClsConfig().jitter_prob) == expected
    assert torch.equal(torch.get_rng_state(), state)


def test_erasing_covers_one_rectangle_with_noise_as_often_as_asked():
    erase, image = RandomErasing(0.3), torch.full((3, 64, 80), 7, dtype=torch.uint8)
    torch.manual_seed(0)
    erased, values = 0, []
    for _ in range(400):
        found = erase(image)
        other = (found != 7).any(0)
        if not other.any():
            continue
        erased += 1
        rows, columns = other.nonzero(as_tuple=True)
        box = found[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert 0.015 < box[0].numel() / (64 * 80) < 0.34 and (box != 7).float().mean() > 0.9
        values.append(box.float().mean())
    assert 80 < erased < 160 and abs(np.mean(values) - 127.5) < 4
    assert (image == 7).all()


def test_each_jitter_comes_by_its_own_probability_and_the_hue_as_far_as_asked():
    torch.manual_seed(0)
    draws = np.array([draw_jitter(0.5, 0.1, 0.25) for _ in range(800)])
    changed = draws != [1, 1, 1, 0]
    assert (np.abs(changed.mean(0) - 0.25) < 0.06).all() and np.abs(np.corrcoef(changed.T) - np.eye(4)).max() < 0.15
    assert 0.09 < np.abs(draws[:, 3]).max() <= 0.1 and draws[:, :3].min() >= 0.5 and draws[:, :3].max() <= 1.5
    assert draw_jitter(0.5, 0.1, 0.0) is None and draw_jitter(0.0, 0.0) is None
    assert draw_jitter(0.0, 0.1)[:3] == (1, 1, 1)


# ---- a batch ----


def batch(count=4, size=(24, 40)):
    """Picture i is of the value 50 i everywhere, its class is i."""
    values = torch.arange(count) * 50
    images = values.to(torch.uint8)[:, None, None, None].expand(count, 3, *size).clone()
    return Batch("cls", images, torch.arange(count), [{"file_name": str(i)} for i in range(count)])


@pytest.mark.parametrize("keys", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_shares_sum_to_one_and_are_those_of_the_pixels(keys):
    mixing = Mixing(ClsConfig(**keys), META.num_classes)
    kinds = set()
    for seed in range(30):
        torch.manual_seed(seed)
        given = batch()
        mixed = mixing(given)
        assert torch.equal(given.images, batch().images) and mixed.sources == given.sources
        assert mixed.targets.shape == (4, 5) and mixed.targets.dtype == torch.float32
        torch.testing.assert_close(mixed.targets.sum(1), torch.ones(4), rtol=0, atol=1e-6)
        own = mixed.targets[torch.arange(4), torch.arange(4)]
        kinds.add(mixed.images.dtype)
        for i in range(4):
            if mixed.images.dtype == torch.uint8:  # pasted: pixels of the one or of the other, counted
                kept = (mixed.images[i] == 50 * i).float().mean()
                assert set(mixed.images[i].unique().tolist()) <= {50 * i, 50 * ((i - 1) % 4)}
            else:
                kept = (mixed.images[i].mean() - 50 * ((i - 1) % 4)) / (50 * i - 50 * ((i - 1) % 4))
            assert float(kept) == pytest.approx(float(own[i]), abs=1e-5)
    assert kinds == {*([torch.float32] if "mixup" in keys else []), *([torch.uint8] if "cutmix" in keys else [])}


def test_some_batches_are_left_alone():
    mixing = Mixing(ClsConfig(mixup=0.2, mix_prob=0.4), META.num_classes)
    torch.manual_seed(0)
    left = sum(mixing(batch()).targets.ndim == 1 for _ in range(300))
    assert 150 < left < 210


def test_the_loss_smooths_mixed_labels_as_it_does_whole_ones():
    torch.manual_seed(0)
    head = ClassificationHead(ClsConfig(label_smoothing=0.1), META, TrunkShape(8, 1, 8, 0))
    torch.nn.init.normal_(head.classifier.weight)
    features = Features([torch.randn(3, 8, 2, 2)], None, (16, 16))
    whole = Batch("cls", torch.zeros(3), torch.tensor([1, 4, 0]), [])
    one_hot = Batch("cls", torch.zeros(3), torch.eye(5)[whole.targets], [])
    torch.testing.assert_close(head.loss(features, one_hot)["loss"], head.loss(features, whole)["loss"])
    shares = torch.tensor([[0.3, 0.7, 0, 0, 0], [0, 0, 0, 0.5, 0.5], [0.9, 0, 0, 0.1, 0]])
    expected = -((0.9 * shares + 0.1 / 5) * head.logits(features).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(head.loss(features, Batch("cls", torch.zeros(3), shares, []))["loss"], expected)
