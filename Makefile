# `make help` lists the targets. The first one that needs it sets up .venv, once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test browser lint format weights clean

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
UNFINISHED := $(VENV)/.unfinished
PIP := $(BIN)/python -m pip --disable-pip-version-check

# One thread per process: on few cores torch's spinning threads slow each other down several
# times over, and results do not depend on the machine's core count.
export OMP_NUM_THREADS ?= 1

# pip warns once per package and per configured local index folder that lacks it: hundreds of
# lines that say nothing. Everything else that it reports stays.
QUIETER := 2> >(grep -v '^WARNING: Location .* is ignored' >&2)

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMP) ## create .venv with everything pinned in requirements.txt (3 GB of downloads)

demo: $(STAMP) ## fine-tune and compare on generated pictures: curves, pictures, report
	$(BIN)/python tools/sweep.py configs/study/demo.yaml --address local
	$(BIN)/python tools/plot_rate_accuracy.py output/demo --output-dir output/demo/curves
	$(BIN)/python tools/visualize.py output/demo/baseline-rate_1 output/demo/jft-rate_1-seed_0 \
	  --show pictures bits --output-dir output/demo/pictures
	$(BIN)/python tools/report.py output/demo

test: lint browser ## lint, type-check, then run the tests in WORKERS=2 processes
	$(BIN)/python -m pytest -q --durations=15 -n $(WORKERS) --dist worksteal

# The report's page is tested in a real browser. Where none can be installed, those tests are skipped.
browser:
	@if [ -n "$${CODEC_DET_BROWSER:-}" ] || command -v chromium chromium-browser google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo 'Installing chromium with apt-get, to test the report in'; \
	  { apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1 \
	    || echo 'apt-get cannot install chromium: the tests that need a browser will be skipped'; \
	else echo 'No chromium, chromium-browser or google-chrome in PATH: the tests that need a browser will be skipped'; fi

lint: $(STAMP) ## check format (ruff), style (ruff) and types (mypy); changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## apply ruff's formatter and safe fixes
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# How codec_det/weights/ was made: about 20 minutes on two cores.
TRAIN := $(BIN)/python tools/train_net.py --overwrite --config-file
EXPORT := $(BIN)/python tools/export_codec.py --half
SHAPES := output/weights
weights: $(STAMP) ## train the embedded data set's detector and codecs anew
	$(TRAIN) configs/shapes/detector.yaml OUTPUT_DIR $(SHAPES)/detector
	$(TRAIN) configs/shapes/codec.yaml OUTPUT_DIR $(SHAPES)/codec_3
	$(TRAIN) configs/shapes/codec.yaml OUTPUT_DIR $(SHAPES)/codec_2 SOLVER.MAX_ITER 800 \
	  MODEL.CODEC.WEIGHTS $(SHAPES)/codec_3/model_final.pth MODEL.CODEC.TARGET_BPP 0.2
	$(TRAIN) configs/shapes/codec.yaml OUTPUT_DIR $(SHAPES)/codec_1 SOLVER.MAX_ITER 800 \
	  MODEL.CODEC.WEIGHTS $(SHAPES)/codec_2/model_final.pth MODEL.CODEC.TARGET_BPP 0.08 MODEL.CODEC.BETA 4.0
	$(TRAIN) configs/shapes/codec.yaml OUTPUT_DIR $(SHAPES)/codec_130 SOLVER.MAX_ITER 800 \
	  MODEL.CODEC.WEIGHTS $(SHAPES)/codec_2/model_final.pth MODEL.CODEC.TARGET_BPP 0.13 MODEL.CODEC.BETA 2.0
	$(EXPORT) --part detector $(SHAPES)/detector/model_final.pth codec_det/weights/shapes_detector.pth
	for i in 1 130 2 3; do $(EXPORT) $(SHAPES)/codec_$$i/model_final.pth codec_det/weights/shapes_codec_$$i.pth; done

clean: ## remove .venv, caches and build leftovers; keep output/ and datasets/
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Runs once, and again when a prerequisite changes. If the very first run is interrupted while pip
# unpacks, half a package may be left that pip takes for a whole one, so the next run starts from
# an empty .venv (pip's cache spares the downloads). A .venv that was there before is never emptied:
# it may hold an official build of detectron2. --without-pip works where Debian's python3-venv is
# missing; --python then installs pip from outside.
$(STAMP): requirements.txt setup.py tools/install_detectron2.py
	@if [ -e $(UNFINISHED) ]; then echo 'An earlier set-up was interrupted: starting again.'; rm -rf $(VENV); fi
	@python=$$(command -v $(BIN)/python || echo $(PYTHON)); $$python -c "import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else f'error: $$python is Python {v[0]}.{v[1]}, but requirements.txt is for 3.11 and 3.12: remove .venv if it is there, then make PYTHON=python3.11')"
	@if ! $(BIN)/python -c '' 2>/dev/null; then echo '[1/4] Creating $(VENV)'; $(PYTHON) -m venv --clear --without-pip $(VENV); touch $(UNFINISHED); fi
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m pip --python $(BIN)/python install --quiet pip $(QUIETER) || $(BIN)/python -m ensurepip
	@echo '[2/4] Installing the pinned packages (3 GB of downloads the first time: some minutes)'
	@$(PIP) install --requirement requirements.txt $(QUIETER)
	@echo '[3/4] Installing detectron2'
	@$(BIN)/python tools/install_detectron2.py
	@echo '[4/4] Installing codec_det (editable) and checking that all versions agree'
	@PYTHONWARNINGS=ignore $(PIP) install --quiet --no-build-isolation --no-deps --editable . $(QUIETER)
	@$(PIP) check
	@rm -f $(UNFINISHED) && touch $@
