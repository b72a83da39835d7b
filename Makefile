# make quickstart   the whole way, from text to a reused configuration, offline, in minutes
# make test         lint, types, floors, all tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What a virtual environment was made from: it is made again when these change.
INSTALLED := $(VENV)/.installed
# Test files at a time. A file stays in one process, so that its tests share what they make once.
TESTS_AT_A_TIME ?= 2

.PHONY: quickstart test lint fast docs clean

quickstart: $(INSTALLED)
	$(BIN)/harness quickstart

test: lint
	$(BIN)/pytest -n $(TESTS_AT_A_TIME) --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tests that take a second or less.
fast: $(INSTALLED)
	$(BIN)/pytest -n $(TESTS_AT_A_TIME) --dist loadfile -m "not slow"

# docs/config.md from the schemas, and the site, in site/. To see it while writing: .venv/bin/mkdocs serve
docs: $(INSTALLED)
	$(BIN)/python -m harness.config.reference > docs/config.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) quickstart runs site conf/experiment/best/quickstart.yaml
