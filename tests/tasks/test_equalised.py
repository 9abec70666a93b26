"""Equalised focal loss: the library's loss for classes in balance, more focus and more weight for rare ones."""

import itertools

import numpy as np
import pytest
import torch
import torch.distributed as dist
from test_heads import DET, learn, make_model, meta_of, squares
from torchvision.ops import box_convert
from transformers.loss.loss_rt_detr import RTDetrHungarianMatcher

from ufo_ds.data.batch import Batch
from ufo_ds.errors import UserError
from ufo_ds.recipe import DetConfig
from ufo_ds.tasks.detection.equalised import SCALE, GradientRatio
from ufo_ds.tasks.detection.head import DetectionHead
from ufo_ds.training.averaging import WeightAverage

META = meta_of("det", [5, 11, 12])
DECODERS = pytest.mark.parametrize("decoder", ["d_fine", "rt_detr_v2"])


def make(decoder, loss="equalised_focal"):
    return make_model("det", DetectionHead, DetConfig(decoder=decoder, loss=loss, **DET), META)


def batch(count=4, labels=(0, 0, 0, 1)):
    images, boxes = squares(count)
    boxes = box_convert(boxes, "xyxy", "cxcywh") / 64
    targets = [{"class_labels": torch.tensor([labels[i]]), "boxes": boxes[i : i + 1]} for i in range(count)]
    return Batch("det", images, targets, [{"file_name": f"{i}.jpg"} for i in range(count)])


def losses(model):
    torch.manual_seed(3)  # the denoising queries' noise
    return {name: value.detach() for name, value in model.train()(batch()).items()}


@DECODERS
def test_before_anything_is_counted_it_is_the_librarys_loss(decoder):
    ours, theirs = losses(make(decoder)), losses(make(decoder, "default"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)


@DECODERS
def test_a_class_out_of_balance_is_focused_by_its_exponent(decoder):
    """Against the formula, written once more, at the library's own outputs."""
    model = make(decoder)
    head = model.heads["det"]
    head.gradient_ratio.sums.copy_(torch.tensor([[3.0, 1.0, 0.0], [3.0, 4.0, 7.0]]))
    gamma = torch.tensor([2.0, 2 + 0.75 * SCALE, 2 + SCALE])
    torch.testing.assert_close(head.gradient_ratio.exponents(2.0), gamma)
    caught = {}
    head.decoder.loss_function = spy(head.decoder.loss_function, caught)
    found = losses(model)["loss_vfl"]
    logits, boxes, indices = caught["logits"], caught["boxes"], caught["indices"]
    expected, counted = 0.0, torch.zeros(2, 3, dtype=torch.float64)
    for image, (queries, chosen) in enumerate(indices):
        target = batch().targets[image]
        for query, label in itertools.product(range(logits.shape[1]), range(3)):
            p = logits[image, query, label].sigmoid().double()
            iou, weight = torch.tensor(0.0).double(), 0.75 * p ** gamma[label]
            hit = query in queries and target["class_labels"][chosen[queries.index(query)]] == label
            if hit:
                iou = weight = iou_of(boxes[image, query], target["boxes"][0])
            weight = weight * gamma[label] / 2
            expected -= weight * (iou * p.log() + (1 - iou) * (1 - p).log())
            counted[0 if hit else 1, label] += weight * (p - iou).abs()
    assert found.item() == pytest.approx(expected.item() / 4, rel=1e-4)
    before = torch.tensor([[3.0, 1.0, 0.0], [3.0, 4.0, 7.0]])
    torch.testing.assert_close(head.gradient_ratio.sums - before, counted, rtol=1e-3, atol=1e-6)
    assert counted[0, 2] == 0 and counted[0, 0] > 0


def spy(loss_function, caught):
    """Keep the outputs of the last layer, and whom they are matched to."""

    def call(logits, labels, device, pred_boxes, config, *args, **kwargs):
        split = kwargs["denoising_meta_values"]["dn_num_split"]
        last, boxes = (torch.split(one, split, dim=1)[1].detach() for one in (logits, pred_boxes))
        outputs = {"logits": last, "pred_boxes": boxes.clamp(0, 1)}
        indices = [(q.tolist(), t.tolist()) for q, t in RTDetrHungarianMatcher(config)(outputs, labels)]
        caught.update(logits=last, boxes=outputs["pred_boxes"], indices=indices)
        return loss_function(logits, labels, device, pred_boxes, config, *args, **kwargs)

    return call


def iou_of(one, other):
    (a1, b1, a2, b2), (c1, d1, c2, d2) = (box_convert(b.double(), "cxcywh", "xyxy") for b in (one, other))
    inside = (torch.min(a2, c2) - torch.max(a1, c1)).clamp(0) * (torch.min(b2, d2) - torch.max(b1, d1)).clamp(0)
    return inside / ((a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - inside)


@DECODERS
def test_it_learns_and_counts_and_every_parameter_has_a_gradient(decoder):
    model = make(decoder)
    found = learn(model, batch(), 30)
    assert min(found[-5:]) < found[0]
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    exponents = model.heads["det"].gradient_ratio.exponents(2.0)
    assert exponents[2] == 2 + SCALE, "no positive at all"
    assert exponents[0] < exponents[2]


def test_the_counts_go_into_weights_and_the_average():
    model = make("d_fine").train()
    model(batch())
    sums = model.heads["det"].gradient_ratio.sums
    assert sums.abs().sum() > 0 and sums.dtype == torch.float64
    average = WeightAverage(model, make("d_fine"), 0.9)
    model(batch())
    average.update(1)
    assert torch.equal(average.model.heads["det"].gradient_ratio.sums, sums)
    twin = make("d_fine").train()
    twin.load_state_dict(model.state_dict())
    for one in (model, twin):
        torch.manual_seed(5)
        one(batch())
    assert torch.equal(twin.heads["det"].gradient_ratio.sums, sums)


def test_a_failed_match_counts_nothing_and_does_not_stop_the_others():
    model = make("d_fine")
    model.get_parameter("trunk.vit.norm.weight").data.fill_(float("nan"))
    assert bool(model.train()(batch())["loss"].isnan())
    assert not model.heads["det"].gradient_ratio.sums.any()


def test_ranks_add_what_they_counted(monkeypatch):
    """As if another rank had seen twice as much."""
    ratio = GradientRatio(1)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda new: new.add_(2 * new + 1))
    ratio.note(torch.tensor([[1.0], [3.0]]), torch.tensor([[True], [False]]))
    ratio.settle()
    assert ratio.sums.flatten().tolist() == [4.0, 10.0]
    ratio.settle()  # nothing seen here: the others must not wait
    assert ratio.sums.flatten().tolist() == [5.0, 11.0]


def test_an_exponent_of_zero_is_refused():
    kwargs = {**DET["decoder_kwargs"], "focal_loss_gamma": 0.0}
    config = DetConfig(**{**DET, "decoder_kwargs": kwargs}, loss="equalised_focal")
    with pytest.raises(UserError, match="focal_loss_gamma is 0"):
        make_model("det", DetectionHead, config, META)


def test_sums_of_several_batches_are_one():
    ratio, whole = GradientRatio(3), torch.rand(4, 6, 3)
    mask = torch.rand(4, 6, 3) < 0.2
    for part in (slice(0, 1), slice(1, 4)):
        ratio.note(whole[part], mask[part])
        ratio.settle()
    np.testing.assert_allclose(ratio.sums[0], (whole * mask).sum((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(ratio.sums[1], (whole * ~mask).sum((0, 1)), rtol=1e-6)
