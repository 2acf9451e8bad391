# Everything a new machine needs: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint bench bench-gpu lock sbom wheelhouse clean

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

# Bytecode is kept, whatever the shell says: the tests start some hundred interpreters. Files begin in the order that
# tests/conftest.py gives them, the longest first. Four at once on two cores, as half of their time they wait for something.
test: setup
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

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
	$(BIN)/uv pip compile pyproject.toml --constraint build-constraints.txt --extra postgresql --extra parquet --universal \
		--python-version 3.10 --generate-hashes --no-annotate --upgrade --quiet --custom-compile-command 'make lock' \
		--output-file deploy/requirements.lock
	rm build-constraints.txt

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
	rm -rf $(VENV) demo-out sbom.json wheelhouse build *.egg-info
