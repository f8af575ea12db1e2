# The two commands of a fresh clone are `make demo` and `make test`; `make help` lists the rest.
#
# Everything goes into .venv, demo/ and tool caches in this folder. Packages come from wherever
# pip is configured to look, torch included: where that index offers several builds of torch,
# choose one with pip's own settings, for example PIP_INDEX_URL, PIP_EXTRA_INDEX_URL or
# PIP_FIND_LINKS, before the first `make`.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# PYTHON=... names the Python to use; otherwise the first of these that is new enough.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

# Processes that run the tests.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo docs test test-quick test-locales rescore rebuild fuzz chaos dist audit lint format clean

help:
	@echo 'make demo      train, sample, score and rank on simulated brains, into demo/'
	@echo 'make docs      build the documentation site, into build/docs, and check its links'
	@echo 'make test      ruff, the import rules, mypy, the tests and the doctests'
	@echo 'make test-quick  ruff and the tests that are not marked slow: while you write code'
	@echo 'make test-locales  what reads and writes text, under other locales than UTF-8'
	@echo 'make rescore   score committed volumes again: fails where a library moved a number'
	@echo 'make rebuild   make two rows of leaderboards/atlas from nothing, and compare; ROWS= others'
	@echo 'make fuzz      read damaged files with every parser, CASES=1000 per parser; takes long'
	@echo 'make chaos     kill every command at random moments, 100 times; see docs/chaos.md'
	@echo 'make dist      wheel and sdist, into dist/, checked by twine'
	@echo 'make audit     compare the pinned packages with the known holes; skipped without a network'
	@echo 'make lint      ruff, the import rules and mypy only'
	@echo 'make format    let ruff rewrite the code'
	@echo 'make install   make or refresh .venv (the others do so by themselves)'
	@echo 'make clean     remove .venv, build folders and caches; demo/ and runs/ stay'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python of a new .venv (3.11 to 3.13);'
	@echo 'WORKERS=8 runs the tests in eight processes instead of two.'

install: $(INSTALLED)

# Containers often set this. Without bytecode on disk each process of the tests and of the demo
# compiles torch again, which takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

# Bytecode is left to the first import (--no-compile): most modules are never imported, and
# compiling all of them took as long as unpacking them.
PIP_INSTALL := $(BIN)/python -m pip install --no-compile --constraint constraints.txt

# The stamp is written last and removed first. So without it an install was never finished, and
# starting over is safe; with it only the pins have changed, and torch need not come again.
$(INSTALLED): pyproject.toml constraints.txt
	@if [ ! -e $@ ]; then \
		found=; for python in $(PYTHONS); do \
			if $$python -c '$(SUPPORTED)' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo 'synthbench needs Python 3.11, 3.12 or 3.13; tried: $(PYTHONS).' >&2; \
			echo 'Install one, or name it: make PYTHON=/path/to/python3.12' >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$found; the first time this takes some minutes."; \
		$$found -m venv --clear $(VENV); \
	fi
	@rm -f $@
	$(PIP_INSTALL) setuptools
	$(PIP_INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $@

# synthbench refuses a folder with anything in it. An earlier demo is known by the cohort that
# it simulates first, and is replaced; any other demo/ stays, and the refusal says so.
demo: $(INSTALLED)
	@if grep -qs '"synthbench atlas"' demo/training/dataset_description.json; then rm -rf demo; fi
	$(BIN)/synthbench demo --out demo

# The examples run while it is built; a second build runs those that were changed since.
docs: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -q -W --keep-going -c docs/site . build/docs
	$(BIN)/python docs/site/check.py build/docs

# One thread per worker: threads that compete for cores made the tests twice as slow. A file stays
# with one worker: what its tests share is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

test: lint
	$(PYTEST) --durations=10 --doctest-modules synthbench tests

test-quick: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(PYTEST) -m 'not slow' tests

# What reads and writes text, where the locale lacks the signs that synthbench prints (C), and
# where it has other bytes for them. `make test-locales LOCALE_TESTS=tests` runs all quick tests.
LOCALE_TESTS ?= tests/runtime tests/render tests/records tests/runs tests/cohorts/tables \
	tests/report/test_text.py tests/report/test_citation.py tests/leaderboard/test_page.py \
	tests/drift/test_output.py tests/cli/test_listing.py
LOCALES := build/locales
LATIN := en_US.ISO-8859-1

test-locales: $(INSTALLED)
	LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $(PYTEST) -m 'not slow' $(LOCALE_TESTS)
	@mkdir -p $(LOCALES)
	@if localedef -i en_US -f ISO-8859-1 $(LOCALES)/$(LATIN) 2>/dev/null; then \
		LOCPATH=$(LOCALES) LC_ALL=$(LATIN) PYTHONUTF8=0 $(PYTEST) -m 'not slow' $(LOCALE_TESTS); \
	else \
		echo 'localedef makes no $(LATIN) here: the tests ran in the locale C only'; \
	fi

# The images are in the repository, so what differs is what the code or a library moved.
FROZEN := tests/data/rescored

rescore: $(INSTALLED)
	@mkdir -p build
	$(BIN)/synthbench score --benchmark $(FROZEN) --real $(FROZEN)/real --synth $(FROZEN)/synth \
		--name pca-gaussian --no-cache --out build/rescored.json
	$(BIN)/synthbench drift $(FROZEN)/baseline.json build/rescored.json

# Rows of the public board: cohorts from their seeds, then training, samples and scorecards.
ROWS ?= pca-gaussian mixup

rebuild: $(INSTALLED)
	rm -rf build/atlas
	WORK=build/atlas SYNTHBENCH=$(BIN)/synthbench SYNTHBENCH_CACHE=build/atlas/cache OMP_NUM_THREADS=1 \
		leaderboards/atlas/rebuild.sh $(ROWS)

# Damaged files per parser, and the seed of the damage: another SEED makes other files.
CASES ?= 1000
SEED ?= 0

fuzz: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --cases $(CASES) --seed $(SEED)

# Half an hour: kills every command at random moments, repeats it, and compares.
chaos: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos.kills

# What an index would take, into dist/.
dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

audit: $(INSTALLED)
	$(BIN)/python .ci/audit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist docs/_site synthbench.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
