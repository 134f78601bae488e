# SAGE on a machine with python3 (3.11 to 3.13) and make, and nothing else.
#
#   make          build .venv with the command `sage` in it
#   make demo     the whole thing, end to end, on videos that it makes itself
#   make test     every test (make fast: without the slow ones)
#   make check    lint, types, import directions

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One process a core, up to four; a file's tests stay together, since they share servers and films,
# and files keep the order that tests/conftest.py gives them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
	--no-loadscope-reorder

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: all demo test fast check format clean
all: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 13) and f"SAGE needs Python 3.11 to 3.13; {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/sage demo --workspace demo

test: $(READY)
	$(PYTEST)

fast: $(READY)
	$(PYTEST) -m 'not slow'

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
