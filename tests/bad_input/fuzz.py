"""Fuzz the readers with atheris: `python tests/bad_input/fuzz.py <target> [options of libFuzzer]`.

For example `python tests/bad_input/fuzz.py submission -max_total_time=180`. A finding is written to `crash-...` in the
working folder, and read again with `python tests/bad_input/fuzz.py submission crash-...`.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent / "shards")]
NAMES = ("submission", "coco", "labels", "sample", "read_meta", "read_index", "shard", "pixels", "all")


def main() -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("error: atheris is not installed; pip install atheris (CPython 3.11 to 3.13 on Linux)")
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"error: name a target: {', '.join(NAMES)}")
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["ufo_ds", "json"]):
        from targets import Targets, accepts
    from small_download import Download

    folder = tempfile.TemporaryDirectory()
    download = Download(Path(folder.name))
    download.build()
    targets = Targets(download.out)
    corpus = Path(folder.name) / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(name, targets, download)):
        (corpus / str(number)).write_bytes(seed)

    def one(data):
        kind = name
        if name == "all":
            kind, data = NAMES[data[0] % 8] if data else "labels", data[1:]
        if kind == "shard":  # the index, a mark, and what replaces the start of the tar
            index, mark, start = data.partition(b"\0TAR\0")
            tar = targets.sound[targets.tar]
            accepts(targets.shard, start + tar[len(start) :] if mark else tar, index)
        elif kind == "pixels":
            targets.pixels(data)
        else:
            accepts(getattr(targets, kind), data)

    atheris.Setup([sys.argv[0], *sys.argv[1:], *([] if any(map(is_file, sys.argv[1:])) else [str(corpus)])], one)
    atheris.Fuzz()


def is_file(word):
    return Path(word).is_file()


def seeds(name, targets, download):
    """Sound inputs to start from."""
    import json

    from test_properties import SOUND

    index, tar = targets.sound[targets.index], targets.sound[targets.tar]
    found = {
        **{key: [json.dumps(value).encode()] for key, value in SOUND.items()},
        "labels": [b"a.jpg 1\nb.jpg 2\n"],
        "read_meta": [targets.sound[targets.meta]],
        "read_index": [index],
        "shard": [index, index + b"\0TAR\0" + tar[:1500]],
        "pixels": [download.image("cls", "train", "train_0.jpg").read_bytes(),
                   download.mask("train", "train_0.jpg").read_bytes()],
    }  # fmt: skip
    if name != "all":
        return found[name]
    return [bytes([NAMES.index(key)]) + seed for key, values in found.items() for seed in values]


if __name__ == "__main__":
    main()
