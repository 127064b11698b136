# The commands of this repository. Each makes what it needs first; `make help` lists them.

# A distribution's Python is built with a profile of itself; what pyenv or a plain ./configure makes is not, and a worker
# takes a third more CPU on it. `make env PYTHON=...` takes another one.
PYTHON ?= $(shell for python in /usr/bin/python3 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; echo $$python)
VENV := .venv
BIN := $(VENV)/bin
ENV_STAMP := $(VENV)/.complete
RESOLVE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

# tests/support/side_by_side.py says which.
SIDE_BY_SIDE := --numprocesses 7 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help env demo test unit lint format bench soak lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 10

env: $(ENV_STAMP) ## the Python environment, in .venv, from the lock

demo: $(ENV_STAMP) ## the processor at work, with a broker and stand-ins for the APIs inside
	@$(BIN)/hakuna-processor demo $(ARGS)

# Where PYTHONDONTWRITEBYTECODE is set, each of some hundred processes would compile all that it imports, which is more
# than half of a worker's start.
test unit: export PYTHONDONTWRITEBYTECODE :=

test: $(ENV_STAMP) ## every test, on a real Kafka
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE)

unit: $(ENV_STAMP) ## the tests that need nothing and take seconds
	@$(BIN)/python -m pytest -m "not kafka and not chaos and not slow"

lint: $(ENV_STAMP) ## style, formatting, types, and whether the lock is fresh
	$(BIN)/python -m tests.support.lock check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(ENV_STAMP) ## put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(ENV_STAMP) ## figures, beside the floors they are judged by
	@$(BIN)/python -m tests.benchmarks

soak: $(ENV_STAMP) ## everything at once, and what must be true of it (MINUTES=20 SEED= and other ARGS=)
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED)) $(ARGS)

# --upgrade: a lock is made anew as a whole; without it the old file's versions would be kept as preferences.
lock: $(BIN)/uv ## resolve the dependencies of pyproject.toml again
	$(RESOLVE) --upgrade --group dev --extra otel pyproject.toml -o .lock/dev.txt
	$(RESOLVE) --upgrade -c .lock/dev.txt pyproject.toml -o .lock/runtime.txt
	$(RESOLVE) --upgrade -c .lock/dev.txt --extra otel pyproject.toml -o .lock/otel.txt
	echo uv | $(RESOLVE) --upgrade -c .lock/dev.txt --no-annotate - -o .lock/uv.txt
	$(BIN)/python -m tests.support.lock stamp

clean: ## remove what the commands here have made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find processor tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv: .lock/uv.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, $(PYTHON) is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .lock/uv.txt
	@touch $@

# The project itself last, editable and without dependencies: they are the lock's to name. Only what pyproject.toml
# says is copied at this point, so changes to the code need no new environment.
$(ENV_STAMP): $(BIN)/uv .lock/dev.txt pyproject.toml
	$(BIN)/uv pip sync --quiet --require-hashes .lock/dev.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
