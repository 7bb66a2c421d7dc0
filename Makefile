# make book: everything for reading;  make lab: JupyterLab;  make student, make bundle: for a class;
# make check, make test: for changing.
# The first Python from 3.11 to 3.13 that runs; PYTHON=... names another one.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
CHAPTER ?= all
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := agg
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
# Without a GPU torch comes from its own index of CPU builds, if that can be reached: PyPI has
# CUDA builds for Linux alone, with gigabytes of toolkits.
CPU_TORCH := nvidia-smi >/dev/null 2>&1 || [ "$$(uname)" = Darwin ] || $(BIN)/pip install -qq \
	--no-deps --timeout 10 --retries 0 --index-url https://download.pytorch.org/whl/cpu \
	"$$(grep '^torch==' constraints.txt)" 2>/dev/null || true

.PHONY: book html drawings links student bundle lab run refresh check lint test bench clean

book: $(VENV)/.book
	$(BIN)/insitu refresh
	$(MAKE) --no-print-directory html

html: $(VENV)/.book
	$(BIN)/jupyter-book build . -n -W --keep-going
	@echo "open _build/html/index.html"

drawings: $(VENV)/.book
	$(BIN)/python -m book.drawings

student: $(VENV)/.book
	$(BIN)/insitu student _student $(ARGS)
	$(BIN)/jupyter-book build _student -n -W --keep-going
	@echo "open _student/_build/html/index.html"

bundle: html
	$(BIN)/insitu bundle insitu-book.zip $(ARGS)

links: $(VENV)/.book
	$(BIN)/jupyter-book build . --builder linkcheck

lab: $(VENV)/.book
	@$(BIN)/jupyter-trust notebooks/*.ipynb >/dev/null  # sliders move before anything is run
	$(BIN)/jupyter-lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks

run: $(VENV)/.book
	$(BIN)/insitu run $(CHAPTER) $(ARGS)

refresh: $(VENV)/.book
	$(BIN)/insitu refresh

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(PYTEST) -m "not slow" --ignore tests/book --ignore tests/notebooks/test_run.py

test: lint
	tests/chromium.sh
	$(BIN)/jupyter-book build . -n -W --keep-going
	$(PYTEST)

bench: $(VENV)/.test
	$(BIN)/python tests/benchmarks/detectors.py
	$(BIN)/python tests/benchmarks/simulation.py
	$(BIN)/python tests/benchmarks/denoising.py
	$(BIN)/python tests/benchmarks/blindspot.py
	$(BIN)/python tests/benchmarks/movies.py
	$(BIN)/python tests/benchmarks/trust.py
	$(BIN)/python tests/benchmarks/tomography.py --size 64 --steps 400 --seeds 3
	$(BIN)/python tests/benchmarks/needle.py
	$(BIN)/python tests/benchmarks/columns.py
	$(BIN)/python tests/benchmarks/events.py
	$(BIN)/python tests/benchmarks/files.py
	$(BIN)/python tests/benchmarks/kills.py
	$(BIN)/python tests/benchmarks/streaming.py
	$(BIN)/python tests/benchmarks/occupancy.py

$(VENV)/bin/pip:
	@[ -n "$(PYTHON)" ] || { echo "no Python from 3.11 to 3.13 was found; name one: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.book: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@$(CPU_TORCH)
	$(BIN)/pip install -qq -c constraints.txt -e ".[book]"
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@$(CPU_TORCH)
	$(BIN)/pip install -qq -c constraints.txt -e ".[book,test]"
	touch $(VENV)/.book $@

clean:
	rm -rf _build _results
