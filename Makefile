# `make` lists what there is. Each target creates the environment first where it is missing or older
# than constraints.txt; `make fit ARGS="data=nih data.root=/data/nih"` passes options on.

PYTHON ?=
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env fit ui test bench lint docs format wheel constraints clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

env: $(INSTALLED) ## create or update the environment in .venv

fit: $(INSTALLED) ## train on the embedded synthetic radiographs, or on what ARGS says
	$(BIN)/python -m cxr_lightning.fit $(ARGS)

ui: $(INSTALLED) ## show the runs of this folder in a browser
	$(BIN)/mlflow ui $(ARGS)

# Most tests use one core; two processes share them out. ARGS="-m slow" runs the others.
test: $(INSTALLED) ## run the tests, two at a time, but for the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow" $(ARGS)

bench: $(INSTALLED) ## measure speed beside other packages and write benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(INSTALLED) ## check style, types, import order, Dockerfile and scripts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile docker/mlflow.Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml
	$(BIN)/shellcheck .ci/run .devcontainer/post-create.sh

docs: $(INSTALLED) ## build the documentation into build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -b html docs build/docs

format: $(INSTALLED) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

wheel: $(INSTALLED) ## build the wheel into dist/
	$(BIN)/python -m hatchling build -t wheel

constraints: $(INSTALLED) ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile pyproject.toml --universal --all-extras --generate-hashes --upgrade \
	  --output-file constraints.txt

clean: ## remove caches and builds; runs and their database stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf $(VENV)

# A venv, the pinned packages with their hashes, then this package itself, editable. hatchling is
# among the pinned packages, so the last step needs no network.
$(INSTALLED): pyproject.toml constraints.txt
	@[ -x $(BIN)/python ] || { \
	  for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	      2>/dev/null || continue; \
	    echo "Creating $(VENV) with $$($$python --version)"; \
	    exec $$python -m venv $(VENV); \
	  done; \
	  echo "Found no Python 3.11 to 3.13 with its venv module (looked at: $(or $(PYTHON),python3 python3.13 python3.12 python3.11))." >&2; \
	  echo "On Debian and Ubuntu: apt-get install python3-venv. Elsewhere, name one: make PYTHON=/path/to/python" >&2; \
	  exit 1; }
	$(PIP) install --require-hashes -r constraints.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	$(PIP) check
	@touch $@
