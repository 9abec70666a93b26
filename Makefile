# Two commands: `make demo` and `make test`. Everything is installed into .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
RANKS ?= 2

export DS_ACCELERATOR ?= cpu
export TORCH_EXTENSIONS_DIR ?= $(CURDIR)/.torch_extensions
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install demo test lint clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar off --constraint constraints.txt --editable '.[dev]'
	touch $@

# Draw, shard, train on two ranks (ZeRO-2, PCGrad, activation checkpointing), predict, score, export, report.
demo: install
	rm -rf $(RUN)
	$(BIN)/python shards/toy.py --out $(RUN)/raw
	$(BIN)/python shards/build.py --layout track1 --raw $(RUN)/raw --out $(RUN)/shards
	$(BIN)/deepspeed --num_gpus $(RANKS) launch/train.py --config launch/recipes/toy.yaml --data.shards $(RUN)/shards --run $(RUN)/train
	$(BIN)/deepspeed --num_gpus $(RANKS) launch/predict.py --run $(RUN)/train --shards $(RUN)/shards --split test --out $(RUN)/submission.json
	$(BIN)/python launch/evaluate.py $(RUN)/submission.json --cls-gt $(RUN)/raw/test_labels/cls.txt \
		--det-gt $(RUN)/raw/test_labels/det.json --seg-gt $(RUN)/raw/test_labels/seg --json $(RUN)/scores.json
	$(BIN)/python launch/export.py --run $(RUN)/train --out $(RUN)/export --shards $(RUN)/shards
	$(BIN)/python launch/report.py --run $(RUN)/train --scores $(RUN)/scores.json --out $(RUN)/report.html

lint: install
	$(BIN)/ruff check .
	$(BIN)/lint-imports

# Tests of one process two at a time; those that start several have the machine to themselves.
test: lint
	$(BIN)/python -m pytest -m "not multiprocess" -n 2 --dist loadscope
	$(BIN)/python -m pytest -m multiprocess

clean:
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .ruff_cache .torch_extensions
