"""Prediction with and without processes beside it writes one and the same file."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ufo_ds.assembly import build_model, save_weights
from ufo_ds.command_line import recipe_from
from ufo_ds.data.folders import open_folder
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import open_shards
from ufo_ds.distributed import ObjectExchange, find_ranks
from ufo_ds.polygons import polygons_to_mask
from ufo_ds.prediction import predict, predictions
from ufo_ds.submission import read_submission

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent / "shards")]

from small_download import Download  # noqa: E402
from test_assembly import VALUES  # noqa: E402

pytestmark = pytest.mark.multiprocess


def test_masks_packed_by_other_processes_are_the_models_own(tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    threads = torch.get_num_threads()
    download = Download(tmp_path)
    download.build()
    recipe, meta = recipe_from(VALUES, "test"), TaskMeta.read(download.out, "seg")
    torch.manual_seed(0)
    model = build_model(recipe, {"seg": meta}).eval()
    save_weights(model, recipe, {"seg": meta}, tmp_path / "weights")
    texts = []
    for count in (1, 2):
        out = tmp_path / f"{count}.json"
        predict(tmp_path / "weights", open_folder(str(download.out)), "val", out, workers=0, threads=count)
        texts.append(out.read_bytes())
    torch.set_num_threads(threads)
    assert texts[0] == texts[1]
    shards, exchange = open_shards(download.out, "seg", "val"), ObjectExchange(find_ranks())
    recipe.data.workers = 0
    own = list(predictions(model, recipe, "seg", shards, meta, exchange, torch.device("cpu"), progress=False))
    read = read_submission(tmp_path / "2.json")["seg"]
    assert len(read) == len(own) == 3 and len(json.loads(texts[0])["seg"]) == 3
    for item, polygons in zip(own, read.values(), strict=True):
        assert np.array_equal(polygons_to_mask(polygons, item.mask.shape), item.mask)
