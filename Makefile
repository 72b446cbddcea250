# Everything from a bare clone, with Python 3.11 or newer, git and make:
#   make demo    train, evaluate, analyze and report a small model on the embedded corpus (under five minutes on two cores)
#   make test    the default test suite
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Minimal pairs of the embedded corpus, and the run that was made last: `runs/demo`, or `demo-2` where that was taken.
PAIRS := .picolm/pairs.jsonl
LATEST = $$(ls -td runs/demo* | head -1)

.PHONY: demo test test-slow transformers4 lint format bench docs clean

demo: .venv/core
	$(BIN)/picolm train demo checkpoints.model.per_doubling=1
	$(BIN)/picolm data world --pairs 40 --out $(PAIRS)
	$(BIN)/picolm evaluate $(LATEST) --checkpoints all --task pairs:$(PAIRS)
	$(BIN)/picolm analyze $(LATEST) --metrics per,effective_rank,condition_number \
		--sites 'layers.*.attention.ov.*,layers.*.mlp.down_proj'
	$(BIN)/picolm report $(LATEST)

test: .venv/dev
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/dev
	$(BIN)/python -m pytest -m slow

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev
	$(BIN)/python -m benchmarks

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The pages: site/index.html"

# The tests of transformers 4.57 run in this interpreter; without it they are skipped.
transformers4: .venv-transformers4/installed

.venv-transformers4/installed:
	$(PYTHON) -m venv .venv-transformers4
	.venv-transformers4/bin/python -m pip install --quiet --disable-pip-version-check \
		torch==2.13.0 transformers==4.57.6 'tokenizers<0.23' safetensors
	@touch $@

# Each stamp says what is installed; a change of the requirements installs anew.
.venv/core: pyproject.toml constraints.txt
	@echo "Setting up .venv with the core (about a minute)"
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/dev: .venv/core
	@echo "Installing what tests and linters need"
	$(PIP) --editable '.[dev]'
	@touch $@

.venv/docs: .venv/core
	@echo "Installing what the documentation needs"
	$(PIP) --editable '.[docs]'
	@touch $@

clean:
	rm -rf .venv .venv-transformers4 site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
