# Two commands: `make run` opens Anchorscope while a first study of a real model is computed beside it, `make test` runs every test.
PYTHON ?= python3.11
STUDY ?= studies/quick.toml
PORT ?= 8501
BIN := .venv/bin

# `make demo` builds the study that ships in assets/demo anew: about four hours.
.PHONY: run test lint model study demo

run: .venv/ready
	@$(BIN)/python -m app.shell.start $(STUDY) --port $(PORT)

study: model
	$(BIN)/python -m precompute run $(STUDY)

demo: model
	$(BIN)/python -m precompute run studies/demo.toml
	$(BIN)/python -m precompute pack stores/demo assets/demo

model: .venv/ready
	$(BIN)/python -m precompute model

# One thread a worker: two OpenMP threads that wait for each other while a neighbour holds a core cost more than they bring.
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations 20 --ignore tests/browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations 20 tests/browser

lint: .venv/dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

.venv/ready: requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "Anchorscope needs Python 3.11, and there is no '$(PYTHON)' on this machine. Install it, or name it: make run PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Anchorscope needs Python 3.11; '$(PYTHON)' is `$(PYTHON) --version 2>&1`. Name another: make run PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments (on Debian: install python3.11-venv)."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# Tests and lint need more than a run does.
.venv/dev: requirements-dev.txt .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
