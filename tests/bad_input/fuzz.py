"""Fuzz the readers with atheris: `python tests/bad_input/fuzz.py <target> [options of libFuzzer]`.

For example `python tests/bad_input/fuzz.py submission -max_total_time=180`. A finding is written to `crash-...` in the
working folder, and read again with `python tests/bad_input/fuzz.py submission crash-...`.
"""

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent / "shards")]
NAMES = ("submission", "coco", "labels", "sample", "raw_coco", "raw_list", "meta", "index", "shard", "tar", "pixels",
         "yaml", "recipe", "weights", "voc", "yolo", "data_yaml", "mask_classes")  # fmt: skip
MARK = b"\0TAR\0"
"""In an input of `shard`: between the index and what replaces the start of the tar."""


def main():
    try:
        import atheris
    except ImportError:
        sys.exit("error: atheris is not installed; pip install atheris (CPython 3.11 to 3.13 on Linux)")
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"error: name a target: {', '.join(NAMES)}")
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["ufo_ds", "shards", "json", "yaml", "tarfile"]):
        from targets import Targets, accepts
    from small_download import Download

    with tempfile.TemporaryDirectory() as folder:
        download = Download(Path(folder))
        download.build()
        targets = Targets(download.out)
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(name, targets, download)):
            (corpus / str(number)).write_bytes(seed)

        def one(data):
            if name == "shard":
                index, mark, start = data.partition(MARK)
                tar = targets.sound[targets.tar_path]
                accepts(targets.shard, start + tar[len(start) :] if mark else tar, index)
            else:
                accepts(getattr(targets, name), data)

        words = Path(folder) / "words"
        words.write_text("".join(f'"{word}"\n' for word in dictionary()))
        again = any(os.path.exists(word) for word in sys.argv[1:])
        atheris.Setup([sys.argv[0], f"-dict={words}", *sys.argv[1:], *([] if again else [str(corpus)])], one)
        atheris.Fuzz()


def dictionary():
    """Words that the readers know, for libFuzzer to put in, as its file of words spells them."""
    from test_properties import KEYS

    from ufo_ds.command_line import recipe_keys

    keys = {*KEYS, *(part for key in recipe_keys() for part in key.split("."))}
    signs = ["{", "}", "[", "]", ",", ":", "null", "true", "1e999", "NaN", "-1", "[[[[", "&a ", "*a", "<<: ", "!!int"]
    return [*(f'\\"{key}\\":' for key in sorted(keys)), *sorted(keys), *signs]


def seeds(name, targets, download):
    """Sound inputs to start from."""
    import json

    from test_properties import SOUND, TEXTS

    index, tar = targets.sound[targets.index_path], targets.sound[targets.tar_path]
    if name in ("submission", "coco", "sample"):
        return [json.dumps(SOUND[name]).encode()]
    if name == "weights":
        import torch
        from safetensors.torch import save

        return [save({"a": torch.zeros(2, 3), "b.c": torch.ones(1, dtype=torch.float16)})]
    if name in ("voc", "yolo", "data_yaml", "mask_classes"):
        return [TEXTS[name]]
    recipes = [path.read_bytes() for path in sorted((HERE.parents[1] / "launch/recipes").glob("*.yaml"))]
    return {
        "labels": [b"a.jpg 1\nb.jpg 2\n"],
        "raw_list": [b"a.jpg 1\nb.jpg 2\n", b"car\nbus\n"],
        "raw_coco": [(download.data / "dec/train.json").read_bytes()],
        "meta": [targets.sound[targets.meta_path]],
        "index": [index],
        "shard": [index, index + MARK + tar[:1500]],
        "tar": [tar, *(path.read_bytes() for path in sorted(download.out.glob("*/test-*.tar")))],
        "pixels": [download.image("cls", "train", "train_0.jpg").read_bytes(),
                   download.mask("train", "train_0.jpg").read_bytes()],
        "yaml": [b"a: &b {c: [1, ~, 'x']}\nd: {<<: *b, e: 2024-01-01}\n", *recipes],
        "recipe": [b"train: {steps: 5}\nseed: 1\n", *recipes],
    }[name]  # fmt: skip


if __name__ == "__main__":
    main()
