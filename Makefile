# make demo, make test, make quick, make check: each makes .venv by itself, and again when what it is made from has changed.
# make web: the page of `tightbound explore`, from web/ by node, which the environment has.
# make installed-page: that page from the wheel, in an empty environment without node.
# make docs: the documentation site. make stranger: the wheel in an empty environment. make coverage: branches that the
# short tests run, with floors. make nightly: these four, the blocks of the site, the long tests of the diagnosis, every recipe on
# the page, and make faults.
# make faults: hundreds of damaged and hostile files and killed trainings. make test-busy: make test beside two busy processes.
# make test-strict: make test with a home that cannot be written and every warning an error.
# make matrix: every recipe on three sets, and a long training at three learning rates; goes on where it was stopped.
# make reproduce ROW=NAME: a row of the table of published results, trained and evaluated; ROW=list, ROW=table.
# make ablation ROW=NAME: what buys nats per minute, one variant. make speedrun: time to -log p(x) of 90, 86 and 84.
# make bench-env: the environment of the libraries that `tightbound bench` compares with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
WORKERS ?= 2
PYTEST_ARGS ?=
MATRIX_ARGS ?=
ROW ?= list
REPRODUCE_ARGS ?=

.PHONY: demo test quick web page installed-page faults test-busy test-strict lowest check format clean matrix bench reproduce ablation speedrun bench-env docs stranger coverage nightly
.DEFAULT_GOAL := demo

demo: $(VENV)/.made
	$(BIN)/tightbound demo

web: $(VENV)/.made
	$(BIN)/python scripts/build_page.py --force

# The page again where its sources have changed; the tests of it are skipped where it cannot be built.
page: $(VENV)/.made
	@$(BIN)/python scripts/build_page.py --local || true

# Compiled modules are kept between runs, and for the processes that tests start, also where PYTHONDONTWRITEBYTECODE is set.
COMPILED := PYTHONDONTWRITEBYTECODE=

test: page
	$(COMPILED) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=10 $(PYTEST_ARGS)

# The inner loop: without the tests that are listed in tests/slow.txt.
quick: page
	$(COMPILED) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --quick $(PYTEST_ARGS)

faults: $(VENV)/.made
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/campaign.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/compressed.py
	OMP_NUM_THREADS=1 TIGHTBOUND_LONG=1 $(BIN)/python -m pytest -q tests/training/test_elastic.py tests/training/test_scale_page.py

# The tests pass on a busy machine: two processes compute for as long as they run.
test-busy: page
	@pids=; for i in 1 2; do $(BIN)/python -c "while True: pass" & pids="$$pids $$!"; done; trap "kill $$pids" EXIT INT TERM; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# The tests pass with a home that cannot be written, and with every warning an error, in processes that they start as well.
test-strict: page
	$(COMPILED) HOME=/proc PYTHONWARNINGS=error OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# The documentation site, in docs/_build/html: every picture of it is made while it is built.
docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

$(VENV)/.docs: $(VENV)/.made
	$(PIP) -e ".[docs]"
	@touch $@

# The wheel in an empty environment, and what a first hour needs; at most six minutes of processor without the installation.
stranger: $(VENV)/.made
	OMP_NUM_THREADS=1 $(BIN)/python scripts/strangers_path.py

installed-page: $(VENV)/.made
	$(BIN)/python scripts/installed_page.py

# Lines and branches of rooms, as their own short tests run them. Each floor is just below what was measured (73.8, 69.8 and
# 72.6 %); another room: make coverage FLOORS="compression=0"
FLOORS ?= core=73 distributions=69 runtime=72
coverage: $(VENV)/.made
	@for pair in $(FLOORS); do \
	  OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --quick --cov=tightbound.$${pair%=*} --cov-branch \
	    --cov-report=term:skip-covered --cov-fail-under=$${pair#*=} tests/$${pair%=*} || exit 1; \
	done

# What is too long for each change: the site, every block of its pages, the stranger's path, the page of the wheel and of every
# recipe, the damaged files and killed trainings, and the remedies of the diagnosis, each applied to models broken on purpose.
nightly: docs stranger coverage faults installed-page
	OMP_NUM_THREADS=1 TIGHTBOUND_LONG=1 $(BIN)/python -m pytest -q tests/project/test_site.py tests/end_to_end/test_examples.py tests/evaluation/diagnosis \
	  tests/faults/test_run_folders.py
	OMP_NUM_THREADS=1 TIGHTBOUND_LONG=1 $(BIN)/python -m pytest -q tests/exploring --deselect tests/exploring/test_installed_page.py

check: $(VENV)/.made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/project/test_layers.py
	$(BIN)/python scripts/structure.py --check

matrix: $(VENV)/.made
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/matrix.py --jobs $(WORKERS) $(MATRIX_ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/matrix.py --stability --jobs $(WORKERS) $(MATRIX_ARGS)

format: $(VENV)/.made
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Other libraries live in an environment of their own, so that they change nothing here. pythae without its dependencies:
# it asks for a back-port of a module that Python has. pyod and statsmodels (its tables) are for benchmarks/detector.py.
# pillow-jxl-plugin is for benchmarks/compress.py, which runs there: benchmarks/.venv/bin/python benchmarks/compress.py.
PEERS := benchmarks/.venv
PEER_PIP := $(PEERS)/bin/python -m pip install --quiet -c constraints.txt -c benchmarks/constraints.txt

bench-env: $(PEERS)/.made

bench: $(VENV)/.made $(PEERS)/.made
	$(BIN)/tightbound bench

# Each goes on where it was stopped. Data sets are in the folder TIGHTBOUND_DATA.
reproduce: $(VENV)/.made
	$(BIN)/python benchmarks/reproduce $(ROW) $(REPRODUCE_ARGS)

ablation: $(VENV)/.made
	$(BIN)/python benchmarks/ablation.py $(ROW) $(REPRODUCE_ARGS)

speedrun: $(VENV)/.made $(PEERS)/.made
	$(BIN)/python benchmarks/speedrun.py $(REPRODUCE_ARGS)
	$(BIN)/python benchmarks/speedrun.py --table

$(PEERS)/.made: pyproject.toml constraints.txt benchmarks/constraints.txt
	@$(PEERS)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(PEERS)
	@$(PEER_PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PEER_PIP) -e ".[compress]" lightning cloudpickle imageio scipy tqdm pyod statsmodels pillow-jxl-plugin
	@$(PEER_PIP) --no-deps pythae
	@touch $@

# A few tests with the lowest versions that pyproject.toml declares, in an environment of its own.
LOWEST := .venv-lowest
LOWEST_PIP := $(LOWEST)/bin/python -m pip install --quiet -c constraints-lowest.txt

lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST_PIP) "$$(grep '^torch==' constraints-lowest.txt)"
	$(LOWEST_PIP) -e ".[all]" pytest pytest-xdist pytest-timeout
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n $(WORKERS) --quick tests/test_settings.py tests/test_api.py \
	  tests/core tests/distributions tests/runs/test_run_folder.py tests/data

clean:
	rm -rf $(VENV) $(LOWEST) $(PEERS) build dist web/node_modules src/tightbound/exploring/static .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "tightbound needs Python 3.11 or newer, which '$(PYTHON)' is not: name one, as in 'make PYTHON=python3.12 demo'." >&2; \
	  exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Making the environment in $(VENV); the first time this takes some minutes, mostly for torch."
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) -e ".[dev]"
	@$(BIN)/python scripts/build_page.py || true
	@touch $@
