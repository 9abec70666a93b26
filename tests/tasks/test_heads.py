"""Each head learns one batch by heart on a small trunk, and answers in the original image's pixels."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.model.joint import JointModel
from ufo_ds.model.trunk import Trunk
from ufo_ds.recipe import ClsConfig, DetConfig, ModelConfig, SegConfig
from ufo_ds.tasks.classification.head import ClassificationHead
from ufo_ds.tasks.detection.decoder import make_decoder
from ufo_ds.tasks.detection.head import DetectionHead
from ufo_ds.tasks.detection.score import BoxMetric, BoxTruth
from ufo_ds.tasks.segmentation.head import SegmentationHead

SMALL_DECODER = {
    "decoder_layers": 2,
    "num_queries": 12,
    "num_denoising": 8,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
}
DET = {"width": 32, "levels": (8, 16), "decoder_kwargs": SMALL_DECODER}


def meta_of(task, ids):
    return TaskMeta(task, "test", [ClassInfo(i, f"class {i}") for i in ids], {})


def make_model(name, make_head, config, meta):
    torch.manual_seed(0)
    trunk = Trunk(
        ModelConfig(
            trunk="vit_tiny_patch16_224",
            pretrained=False,
            depths=2,
            trunk_kwargs={"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3},
        )
    )
    return JointModel(trunk, {name: make_head(config, meta, trunk.shape)})


def learn(model, batch, steps, lr=2e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0)
    model.train()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        parts = model(batch)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(parts["loss"].detach()))
    model.eval()
    return losses


def squares(count, size=64):
    """Noise with one bright square an image; its boxes, xyxy pixels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (count, 3, size, size), dtype=np.uint8)
    boxes = []
    for image in images:
        side = int(generator.integers(16, 28))
        x, y = generator.integers(0, size - side, 2)
        image[:, y : y + side, x : x + side] = 220
        boxes.append([x, y, x + side, y + side])
    return torch.from_numpy(images), torch.tensor(boxes, dtype=torch.float32)


def test_classification_learns_and_answers_in_class_ids():
    meta = meta_of("cls", [3, 7, 20])
    model = make_model("cls", ClassificationHead, ClsConfig(), meta)
    images, _ = squares(6)
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    batch = Batch("cls", images, targets, [{"file_name": f"{i}.jpg"} for i in range(6)])
    losses = learn(model, batch, 60)
    predictions = model.predict(batch)
    assert losses[-1] < losses[0] / 2
    assert [p.label for p in predictions] == [meta.class_ids[i] for i in targets]
    assert all(0 < p.confidence <= 1 for p in predictions) and predictions[0].file_name == "0.jpg"


@pytest.mark.parametrize("decoder", ["d_fine", "rt_detr_v2"])
def test_detection_learns_and_answers_in_original_pixels(decoder):
    meta = meta_of("det", [5, 11])
    model = make_model("det", DetectionHead, DetConfig(decoder=decoder, **DET), meta)
    images, boxes = squares(4)
    relative = (
        torch.stack(
            [
                (boxes[:, 0] + boxes[:, 2]) / 2,
                (boxes[:, 1] + boxes[:, 3]) / 2,
                boxes[:, 2] - boxes[:, 0],
                boxes[:, 3] - boxes[:, 1],
            ],
            1,
        )
        / 64
    )
    targets = [{"class_labels": torch.tensor([i % 2]), "boxes": relative[i : i + 1]} for i in range(4)]
    sources = [{"file_name": f"{i}.jpg", "image_id": 40 + i, "size": (128, 128), "scale": 0.5} for i in range(4)]
    batch = Batch("det", images, targets, sources)
    losses = learn(model, batch, 150)
    assert losses[-1] < losses[0] / 2
    for i, prediction in enumerate(model.predict(batch)):
        best = int(np.argmax(prediction.scores))
        assert prediction.image_id == 40 + i
        assert prediction.category_ids[best] == meta.class_ids[i % 2]
        assert (
            np.abs(prediction.boxes[best] - 2 * boxes[i].numpy()).max() < 12
        )  # scale 0.5: the original is twice as large
        assert prediction.boxes.min() >= 0 and prediction.boxes.max() <= 128


@pytest.mark.parametrize("decoder", ["d_fine", "rt_detr_v2"])
@pytest.mark.parametrize("where", ["trunk.vit.norm.weight", "heads.det.decoder.model.enc_output.0.weight"])
def test_detection_with_weights_that_are_not_finite_is_a_loss_that_is_not_finite(decoder, where):
    """The library's matching raises; the run has to see a loss, and every parameter a gradient, as on other ranks."""
    model = make_model("det", DetectionHead, DetConfig(decoder=decoder, **DET), meta_of("det", [5, 11]))
    model.get_parameter(where).data.fill_(float("nan"))
    targets = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}] * 2
    source = {"file_name": "a.jpg", "image_id": 1, "size": (128, 128), "scale": 0.5}
    batch = Batch("det", squares(2)[0], targets, [source, source])
    loss = model.train()(batch)["loss"]
    assert bool(loss.isnan())
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    metric = BoxMetric()
    truth = BoxTruth(1, np.array([[8.0, 8, 20, 20]]), np.array([5]), np.array([False]), np.array([400.0]))
    metric.update(model.eval().predict(batch)[:1], [truth])
    assert metric.compute()["mAP50"] == 0


@pytest.mark.parametrize(("nms", "kept"), [(0.7, 3), (None, 4), (0.05, 2)])
def test_doubles_of_one_class_are_suppressed(nms, kept):
    model = make_model("det", DetectionHead, DetConfig(nms=nms, **DET), meta_of("det", [5, 11]))
    boxes = torch.tensor([[0, 0, 20, 20], [0, 0, 20, 19], [0, 0, 20, 20], [15, 0, 35, 20]], dtype=torch.float32)
    source = {"image_id": 1, "size": (64, 64), "scale": 1.0}
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 1, 0])
    prediction = model.heads["det"]._prediction(boxes, scores, labels, source)
    assert prediction.scores[0] == pytest.approx(0.9) and len(prediction.scores) == kept
    assert set(prediction.category_ids) == {5, 11}, "another class is no double"


def test_detection_pads_the_canvas_and_still_answers_in_its_pixels():
    model = make_model("det", DetectionHead, DetConfig(**DET), meta_of("det", [1]))
    images = torch.zeros(1, 3, 60, 44, dtype=torch.uint8)
    assert model.trunk(images).input_size == (64, 48)
    head = model.heads["det"]
    batch = Batch(
        "det",
        images,
        [{"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.5, 0.5, 1.0, 1.0]])}],
        [{"file_name": "a.jpg"}],
    )
    padded = head._to_padded(batch.targets[0], batch, model.trunk(images))["boxes"][0]
    torch.testing.assert_close(padded * torch.tensor([48, 64, 48, 64.0]), torch.tensor([22, 30, 44, 60.0]))


def test_detection_without_a_box_gives_every_parameter_a_gradient():
    model = make_model("det", DetectionHead, DetConfig(**DET), meta_of("det", [1, 2]))
    empty = {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)}
    batch = Batch("det", squares(2)[0], [empty, empty], [{"file_name": "a.jpg"}] * 2)
    model.train()
    loss = model(batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_of_more_boxes_than_queries_the_largest_count(capsys):
    model = make_model("det", DetectionHead, DetConfig(**DET), meta_of("det", [1])).eval()
    boxes = torch.full((13, 4), 0.5)
    boxes[:, 2] = torch.arange(1, 14) / 30
    boxes[4, 2] = 0.01
    losses = []
    for chosen in (boxes, torch.cat([boxes[:4], boxes[5:]])):
        target = {"class_labels": torch.zeros(len(chosen), dtype=torch.long), "boxes": chosen}
        batch = Batch("det", squares(1)[0], [target], [{"file_name": "a.jpg"}])
        losses.append(float(model(batch)["loss"].detach()))
    assert losses[0] == losses[1]
    assert "note: a.jpg: 13 boxes, but the decoder has 12 queries: in such images" in capsys.readouterr().err


def test_detection_losses_are_fp32_under_autocast():
    model = make_model("det", DetectionHead, DetConfig(**DET), meta_of("det", [1]))
    images, _ = squares(2)
    with torch.autocast("cpu", torch.bfloat16):
        raw = model.raw("det", images)
    assert raw["boxes"].dtype == raw["logits"].dtype == torch.float32
    assert len(torch.unique(raw["boxes"].to(torch.bfloat16).float() - raw["boxes"])) > 1, "boxes went through bf16"


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_published_decoder_weights_load_where_they_fit(tmp_path, norm):
    config = DetConfig(norm=norm, **DET)
    published = make_decoder(config, 80)
    for value in published.parameters():
        value.data.normal_()
    state = {name: value.clone() for name, value in published.state_dict().items()}  # some are tied
    save_file(state, tmp_path / "coco.safetensors")
    decoder = make_decoder(DetConfig(norm=norm, decoder_weights=str(tmp_path / "coco.safetensors"), **DET), 4)
    own = decoder.state_dict()
    fitting = [name for name in own if own[name].shape == state[name].shape]
    assert len(fitting) > 0.9 * len(own) and "model.enc_score_head.weight" not in fitting
    assert [name for name in fitting if not torch.equal(own[name], state[name])] == []
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="none of its 1 tensors fits"):
        make_decoder(DetConfig(norm=norm, decoder_weights=str(tmp_path / "other.safetensors"), **DET), 4)


def test_a_decoder_field_that_does_not_exist_is_named():
    with pytest.raises(UserError, match="no field 'num_wheels'"):
        make_decoder(DetConfig(decoder_kwargs={"num_wheels": 4}), 3)


def test_segmentation_learns_and_answers_at_the_original_size():
    meta = meta_of("seg", range(3))
    model = make_model("seg", SegmentationHead, SegConfig(width=32), meta)
    images, boxes = squares(3)
    targets = torch.zeros(3, 64, 64, dtype=torch.uint8)  # as the batches have them
    for target, (x0, y0, x1, y1) in zip(targets, boxes.int().tolist(), strict=True):
        target[y0:y1, x0:x1] = 2
        target[:4] = 255
    sources = [{"file_name": f"{i}.png", "input_size": (64, 64), "size": (96, 130)} for i in range(3)]
    batch = Batch("seg", images, targets, sources)
    losses = learn(model, batch, 60)
    assert losses[-1] < losses[0] / 3
    mask = model.predict(batch)[0].mask
    assert mask.shape == (96, 130) and mask.dtype == np.uint8
    x0, y0, x1, y1 = (boxes[0].numpy() * np.array([130, 96, 130, 96]) / 64).astype(int)
    assert (mask[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4] == 2).mean() > 0.9


def test_segmentation_of_an_all_ignored_crop_is_zero_not_nan():
    model = make_model("seg", SegmentationHead, SegConfig(width=32), meta_of("seg", range(2)))
    batch = Batch("seg", squares(1)[0], torch.full((1, 64, 64), 255), [{"file_name": "a.png"}])
    assert float(model(batch)["loss"].detach()) == 0.0
