# make quickstart   the whole way, from text to a reused configuration, offline, in minutes
# make test         lint, types, floors, all tests but the long ones
# make test-long    the tests that take minutes by nature: clusters in chaos, many at once, benchmarks
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What a virtual environment was made from: it is made again when these change.
INSTALLED := $(VENV)/.installed
# Processes: twice as many as CI has cores, since many tests wait. A file's tests stay in one, and so do all that need a server (see tests/conftest.py): they share what is made once.
TESTS_AT_A_TIME ?= 4
# Temporary files in memory, where nobody says where else, 8 GB of /dev/shm and 16 GB of memory are free, and programs may be run from it: on a disk, tests spend a third of their time on syncing files.
IN_MEMORY = $(shell [ -z "$$TMPDIR" ] && grep ' /dev/shm ' /proc/mounts 2>/dev/null | grep -qv noexec && [ $$(df --output=avail /dev/shm | tail -n 1) -gt 8000000 ] \
	&& [ $$(awk '/^MemAvailable/ { print $$2 }' /proc/meminfo) -gt 16000000 ] && echo TMPDIR=/dev/shm)
# One thread of torch each: on tensors as small as the tests' processes with two threads each wait for each other most of the time.
PYTEST = $(IN_MEMORY) OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TESTS_AT_A_TIME) --dist loadgroup --no-loadscope-reorder

# What is imported is compiled once, not by every process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install quickstart test pytest test-long lint fast docs clean

install: $(INSTALLED)

quickstart: $(INSTALLED)
	$(BIN)/harness quickstart

# Side by side: mypy alone keeps one core busy for a minute or two. What lint says is shown when the tests have ended.
test: $(INSTALLED)
	@said=$$(mktemp); $(MAKE) --no-print-directory lint >$$said 2>&1 & linting=$$!; trap "kill $$linting; rm -f $$said" INT TERM; \
	$(MAKE) --no-print-directory pytest; tested=$$?; wait $$linting; linted=$$?; cat $$said; rm -f $$said; \
	[ $$linted -eq 0 ] || echo "lint failed"; [ $$tested -eq 0 ] && [ $$linted -eq 0 ]

pytest: $(INSTALLED)
	$(PYTEST) -m "not long"

test-long: $(INSTALLED)
	$(PYTEST) -m long

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tests that take a second or less.
fast: $(INSTALLED)
	$(PYTEST) -m "not slow and not long"

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
	rm -rf $(VENV) quickstart runs site conf/experiment/best/quickstart conf/experiment/best/quickstart.yaml
