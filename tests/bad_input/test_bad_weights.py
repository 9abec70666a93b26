"""Folders of weights, published weights, pickles: read without running anything, or refused."""

import json
import os
import pickle
import shutil
import struct

import pytest
import torch
from refusals import (
    DEEP,
    JSON,
    cut,
    forbid,
    gzipped,
    link_to_itself,
    make_endless,
    make_folder,
    make_pipe,
    nested,
    parametrized,
    put,
    refusal,
)
from safetensors.torch import load_file, save_file

from ufo_ds.assembly import CONFIG, WEIGHTS, build_model, load_model, read_tensors, save_weights, values_of
from ufo_ds.command_line import recipe_from
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.model.trunk import Trunk
from ufo_ds.recipe import ModelConfig

TRUNK = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}
VALUES = {
    "model": {"trunk": "vit_tiny_patch16_224", "trunk_kwargs": TRUNK, "pretrained": False, "depths": 1},
    "tasks": {"cls": {"size": [32, 32]}, "seg": {"crop": [32, 32], "width": 16}},
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    recipe = recipe_from(VALUES, "test")
    metas = {name: TaskMeta(name, "test", [ClassInfo(i, str(i)) for i in range(3)], {}) for name in ("cls", "seg")}
    save_weights(build_model(recipe, metas), recipe, metas, folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "weights")


def test_the_sound_weights_are_read(folder):
    assert list(load_model(folder)[2]) == ["cls", "seg"]


def header(change):
    """A spoiler: another header before the same bytes."""

    def spoil(path):
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        value = json.loads(data[8 : 8 + size])
        value = change(value) or value
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return spoil


def announce(size):
    def spoil(path):
        path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])

    return spoil


def tensors(change):
    def spoil(path):
        value = load_file(path)
        change(value)
        save_file(value, path)

    return spoil


def first(value):
    return next(name for name in sorted(value) if name.startswith("trunk."))


def entry(**change):
    return header(lambda value: value[first(value)].update(change))


def convert(kind):
    return tensors(lambda value: value.update({first(value): value[first(value)].to(kind)}))


def overlap(value):
    """Two tensors on the same bytes, each of the right size."""
    names = sorted((name for name in value if name != "__metadata__"), key=lambda name: value[name]["data_offsets"])
    start, stop = value[names[0]]["data_offsets"]
    value[names[1]].update(data_offsets=[start, stop], shape=value[names[0]]["shape"])


def hole(value):
    """Bytes that belong to no tensor."""
    names = sorted((name for name in value if name != "__metadata__"), key=lambda name: value[name]["data_offsets"])
    del value[names[1]]


FITS = "does not fit its config.json"
FILES = {
    "empty": (put(b""), "not a readable safetensors file"),
    "text": (put("weights"), "not a readable safetensors file"),
    "gzip": (gzipped, "not a readable safetensors file"),
    "forbidden": (forbid, "not a readable safetensors file"),
    "absent": (lambda path: path.unlink(), "no weights here"),
    "folder": (make_folder, "no weights here"),
    "link to itself": (link_to_itself, "no weights here"),
    "cut": (cut(0.9), "not a readable safetensors file"),
    "cut in the header": (cut(0.01), "not a readable safetensors file"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "not a readable safetensors file"),
    "header of terabytes": (announce(2**40), "not a readable safetensors file"),
    "header negative": (announce(2**64 - 1), "not a readable safetensors file"),
    "header zero": (announce(0), "not a readable safetensors file"),
    "header a list": (header(lambda value: b"[]"), "not a readable safetensors file"),
    "header deep": (header(lambda value: b"[" * DEEP), "not a readable safetensors file"),
    "header bytes": (header(lambda value: b"\xff" * 100), "not a readable safetensors file"),
    "header empty": (header(lambda value: b"{}"), "not a readable safetensors file"),
    "offsets beyond the end": (entry(data_offsets=[0, 10**9]), "not a readable safetensors file"),
    "offsets reversed": (entry(data_offsets=[100, 0]), "not a readable safetensors file"),
    "offsets negative": (entry(data_offsets=[-1, 3]), "not a readable safetensors file"),
    "shape negative": (entry(shape=[-1]), "not a readable safetensors file"),
    "shape huge": (entry(shape=[2**62, 2**62]), "not a readable safetensors file"),
    "shape too small": (entry(shape=[1]), "not a readable safetensors file"),
    "dtype unknown": (entry(dtype="F99"), "not a readable safetensors file"),
    "dtype of half the size": (entry(dtype="F16"), "not a readable safetensors file"),
    "dtype of the same size": (entry(dtype="I32"), FITS),
    "a tensor less": (tensors(lambda value: value.pop(first(value))), FITS),
    "a tensor more": (tensors(lambda value: value.update(more=torch.zeros(1))), FITS),
    "a tensor renamed": (tensors(lambda value: value.update(x=value.pop(first(value)))), FITS),
    "no tensor": (lambda path: save_file({}, path), FITS),
    "another shape": (tensors(lambda value: value.update({first(value): torch.zeros(2, 3)})), FITS),
    "a NaN": (tensors(lambda value: value[first(value)].view(-1)[:1].fill_(float("nan"))), "holds NaN, its run"),
    "pipe": (make_pipe, "no weights here"),
    "device": (make_endless, "no weights here"),
    "overlapping": (header(overlap), "not a readable safetensors file"),
    "a hole": (header(hole), "not a readable safetensors file"),
    "complex numbers": (convert(torch.complex64), FITS),
    "whole numbers": (convert(torch.int64), FITS),
    "truth values": (convert(torch.bool), FITS),
}


@parametrized(FILES)
def test_broken_weights_are_named(folder, case):
    spoil, fragment = case
    spoil(folder / WEIGHTS)
    refusal(lambda: load_model(folder), folder, str(folder), fragment)


def changed(change):
    def spoil(path):
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return spoil


def task(**change):
    return changed(lambda value: value["tasks"]["cls"].update(change))


def classes(*items):
    return task(classes=list(items))


ZERO = {"id": 0, "name": "a"}
CONFIGS = {
    "format of tomorrow": (changed(lambda value: value.update(format=2)), "not a model description of format 1"),
    "format missing": (changed(lambda value: value.pop("format")), "not a model description"),
    "model missing": (changed(lambda value: value.pop("model")), "not a model description"),
    "tasks missing": (changed(lambda value: value.pop("tasks")), "not a model description"),
    "tasks a list": (changed(lambda value: value.update(tasks=[])), "key 'tasks"),
    "tasks empty": (changed(lambda value: value.update(tasks={})), "no task at all"),
    "task null": (changed(lambda value: value["tasks"].update(cls=None)), "key 'tasks"),
    "task unknown": (changed(lambda value: value["tasks"].update(depth=value["tasks"]["cls"])), "'tasks.depth"),
    "config missing": (changed(lambda value: value["tasks"]["cls"].pop("config")), "KeyError('config')"),
    "config a list": (task(config=["size"]), "key 'tasks"),
    "config a text": (task(config="abc"), "key 'tasks"),
    "config key unknown": (task(config={"sizes": [32, 32]}), "unknown key 'tasks.cls.sizes'"),
    "config value": (task(config={"size": "big"}), "tasks.cls.size"),
    "classes missing": (changed(lambda value: value["tasks"]["cls"].pop("classes")), "KeyError('classes')"),
    "classes null": (task(classes=None), "key 'tasks.cls'"),
    "classes a number": (task(classes=3), "key 'tasks.cls'"),
    "classes empty": (classes(), "not one or more"),
    "class a number": (classes(3), "key 'tasks.cls'"),
    "class id text": (classes({"id": "0", "name": "a"}), "class '0'"),
    "class id negative": (classes({"id": -1, "name": "a"}), "class -1"),
    "class id huge": (classes({"id": 10**30, "name": "a"}), "class 1000"),
    "class id float": (classes({"id": 0.0, "name": "a"}), "class 0.0"),
    "class id deep": (classes({"id": json.loads(nested(900)), "name": "a"}), "class [[["),
    "class name null": (classes({"id": 0, "name": None}), "name None"),
    "class twice": (classes(ZERO, ZERO), "ascending order of distinct ids"),
    "class with more": (classes({**ZERO, "color": 1}), "key 'tasks.cls'"),
    "a class less": (classes(ZERO, {"id": 1, "name": "b"}), FITS),
    "model a list": (changed(lambda value: value.update(model=["vit"])), "key 'tasks"),
    "model null": (changed(lambda value: value.update(model=None)), "key 'tasks"),
    "model key unknown": (changed(lambda value: value["model"].update(layers=3)), "unknown key 'model.layers'"),
    "trunk unknown": (changed(lambda value: value["model"].update(trunk="vit_giant")), "has no model 'vit_giant'"),
    "trunk no ViT": (changed(lambda value: value["model"].update(trunk="resnet18", trunk_kwargs={})), "'resnet18'"),
    "trunk arguments": (changed(lambda value: value["model"]["trunk_kwargs"].update(layers=3)), "key 'model.trunk'"),
    "trunk width zero": (changed(lambda value: value["model"]["trunk_kwargs"].update(embed_dim=0)), ""),
    "trunk width huge": (changed(lambda value: value["model"]["trunk_kwargs"].update(embed_dim=3 << 40)), "model"),
    "trunk heads odd": (changed(lambda value: value["model"]["trunk_kwargs"].update(num_heads=5)), "model.trunk"),
    "trunk deeper": (changed(lambda value: value["model"]["trunk_kwargs"].update(depth=2)), FITS),
    "depths": (changed(lambda value: value["model"].update(depths=9)), "key 'model.depths' is 9"),
    "precision": (changed(lambda value: value.update(precision="fp8")), "train.precision"),
    **{f"file {name}": (spoil, "") for name, spoil in JSON.items()},
}  # fmt: skip


@parametrized(CONFIGS)
def test_a_broken_description_is_named(folder, case):
    spoil, fragment = case
    spoil(folder / CONFIG)
    refusal(lambda: load_model(folder), folder, fragment)


def test_a_broken_description_is_no_base_of_a_run_either(folder):
    CONFIGS["class twice"][0](folder / CONFIG)
    refusal(lambda: values_of(folder), folder, str(folder / CONFIG))


class Exploit:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "model.bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_never_run(tmp_path, name, zipped):
    path, made = tmp_path / name, tmp_path / "made"
    value = {"cls_token": torch.zeros(1, 1, 24), "x": Exploit(made)}
    if zipped:
        torch.save(value, path)
    else:
        path.write_bytes(pickle.dumps(value))
    config = ModelConfig(trunk="vit_tiny_patch16_224", trunk_kwargs=TRUNK, depths=1, pretrained_file=str(path))
    refusal(lambda: Trunk(config), tmp_path, "key 'model.pretrained'", str(path))
    refusal(lambda: read_tensors(path), tmp_path, str(path))
    assert not made.exists()


@pytest.mark.parametrize(
    "spoil",
    [put(b""), put("text"), make_folder, lambda path: path.unlink(), cut(0.5)],
    ids=["empty", "text", "folder", "absent", "cut"],
)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_published_weights_that_cannot_be_read_are_named(tmp_path, spoil, name):
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)({"cls_token": torch.zeros(1, 1, 24)}, path)
    spoil(path)
    config = ModelConfig(trunk="vit_tiny_patch16_224", trunk_kwargs=TRUNK, depths=1, pretrained_file=str(path))
    refusal(lambda: Trunk(config), tmp_path, "key 'model.pretrained'", str(path))


@pytest.mark.parametrize(
    "spoil",
    [put(b""), put("text"), make_folder, lambda path: path.unlink(), cut(0.5), announce(2**40)],
    ids=["empty", "text", "folder", "absent", "cut", "header"],
)
def test_published_decoder_weights_that_cannot_be_read_are_named(tmp_path, spoil):
    from ufo_ds.tasks.detection.decoder import load_published

    path = tmp_path / "decoder.safetensors"
    save_file({"weight": torch.zeros(3, 3), "bias": torch.zeros(3)}, path)
    assert load_published(torch.nn.Linear(3, 3), path) == ["bias", "weight"]
    spoil(path)
    refusal(lambda: load_published(torch.nn.Linear(3, 3), path), tmp_path, str(path), "tasks.det.decoder_weights")


def test_published_decoder_weights_of_another_kind_do_not_fit(tmp_path):
    from ufo_ds.tasks.detection.decoder import load_published

    path = tmp_path / "decoder.safetensors"
    save_file({"weight": torch.zeros(3, 3, dtype=torch.int8), "bias": torch.zeros(4)}, path)
    refusal(lambda: load_published(torch.nn.Linear(3, 3), path), tmp_path, "none of its 2 tensors fits")
