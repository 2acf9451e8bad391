# Everything a new machine needs: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint test-lowest test-oldest test-newest bench bench-gpu lock sbom wheelhouse card clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "edge-agent needs Python 3.10 to 3.13; name one: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "no virtual environment: on Debian, apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# A server without a desktop lacks the libraries that opencv-python wants; its headless twin does without.
	@$(BIN)/python -c 'import cv2' 2>/dev/null || $(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless
	@touch $@

demo: setup
	$(BIN)/edge-agent replay edge_agent/samples --out demo-out --again
	$(BIN)/trainer station --good edge_agent/sample_part/good --try edge_agent/sample_part/new --class-name "metal plate" \
		--name plate --out demo-out/plate
	@echo "look at it with   $(BIN)/edge-agent page --journal demo-out/journal.db"

# Bytecode is kept, whatever the shell says: the tests start some hundred interpreters. Files begin in the order that
# tests/conftest.py gives them, the longest first. Four at once on two cores, as half of their time they wait for something.
test: setup
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# Other versions than setup's: the lowest that pyproject.toml promises on the oldest Python, the newest on the newest one.
OLDEST := 3.10
NEWEST := 3.13
QUICK := tests/test_config.py tests/test_journal.py tests/test_migrations.py tests/test_pictures.py tests/test_masks.py

# $(1): folder of the environment, $(2): version of Python, $(3): which versions of what it depends on.
define environment
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --python "$$(.ci/interpreter $(2))" .venvs/$(1)
	$(BIN)/uv pip install --quiet --python .venvs/$(1)/bin/python --resolution $(3) --editable '.[dev]'
endef

# $(1): folder of the environment.
define quick
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 .venvs/$(1)/bin/python -m pytest -n 2 --dist loadfile $(QUICK)
	.venvs/$(1)/bin/edge-agent --help >.venvs/$(1)/help.txt
	.venvs/$(1)/bin/trainer --help >>.venvs/$(1)/help.txt
	.venvs/$(1)/bin/edge-agent replay edge_agent/samples --out .venvs/$(1)/demo-out --again >.venvs/$(1)/replay.txt
	grep -q '12 OK, 8 NotOK, 0 NotDecidable' .venvs/$(1)/replay.txt
endef

# All tests once, with the lowest versions.
test-lowest: setup
	$(call environment,oldest,$(OLDEST),lowest-direct)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 .venvs/oldest/bin/python -m pytest -n 2 --dist loadfile

# The quick part of them: config, journal, pictures, a replay of the samples, --help.
test-oldest: setup
	$(call environment,oldest,$(OLDEST),lowest-direct)
	$(call quick,oldest)

test-newest: setup
	$(call environment,newest,$(NEWEST),highest)
	$(call quick,newest)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks.replay

bench-gpu: setup
	$(BIN)/python -m benchmarks.gpu

# What a release installs, to the byte: pip install --require-hashes -r deploy/requirements.lock, then edge-agent --no-deps.
# torch is the one that the tests here ran with.
lock: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m pip freeze | grep -E '^(torch|torchvision)==' > build-constraints.txt
	$(BIN)/uv pip compile pyproject.toml --constraint build-constraints.txt --extra genicam --extra opcua --extra page --extra parquet --extra plc --extra postgresql --extra video --universal \
		--python-version 3.10 --generate-hashes --no-annotate --upgrade --quiet --custom-compile-command 'make lock' \
		--output-file deploy/requirements.lock
	rm build-constraints.txt

# Before a release: the tables of the model card, measured on real pictures in MVTec layout below DATA.
card: setup
	$(BIN)/python -m benchmarks.shipped --data $(DATA) --write

# What is in a release, as CycloneDX lists it.
sbom: setup
	$(BIN)/python -m pip install --quiet cyclonedx-bom
	$(BIN)/cyclonedx-py requirements deploy/requirements.lock --output-file sbom.json

# All that a machine without internet needs, for the same Python and processor as here; see docs/operation.md.
wheelhouse: setup
	rm -rf wheelhouse/deploy wheelhouse/edge_agent-*.whl
	$(BIN)/python -m pip download --quiet --require-hashes -r deploy/requirements.lock --dest wheelhouse
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir wheelhouse .
	cp -r deploy config.yaml wheelhouse/

clean:
	rm -rf $(VENV) .venvs demo-out sbom.json wheelhouse build *.egg-info
