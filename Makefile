# make book: everything for reading;  make test: everything for changing;  make run, html, bench.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CHAPTER ?= all
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := agg

.PHONY: book html run test bench refresh clean

book: $(VENV)/.book
	$(BIN)/insitu refresh
	$(MAKE) --no-print-directory html

html: $(VENV)/.book
	$(BIN)/jupyter-book build . -n -W --keep-going
	@echo "open _build/html/index.html"

run: $(VENV)/.book
	$(BIN)/insitu run $(CHAPTER) $(ARGS)

refresh: $(VENV)/.book
	$(BIN)/insitu refresh

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	tests/chromium.sh
	$(BIN)/jupyter-book build . -n -W --keep-going
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

bench: $(VENV)/.test
	$(BIN)/python tests/benchmarks/detectors.py
	$(BIN)/python tests/benchmarks/simulation.py
	$(BIN)/python tests/benchmarks/denoising.py
	$(BIN)/python tests/benchmarks/blindspot.py
	$(BIN)/python tests/benchmarks/trust.py
	$(BIN)/python tests/benchmarks/tomography.py --size 64 --steps 400 --seeds 3
	$(BIN)/python tests/benchmarks/needle.py

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.book: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install -qq -c constraints.txt -e ".[book]"
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install -qq -c constraints.txt -e ".[book,test]"
	touch $(VENV)/.book $@

clean:
	rm -rf _build _results
