# `make run` and `make test` need only make and a Python from 3.11 to 3.14, which is found by itself; another one: make PYTHON=...
# Everything else is installed into .venv, from files whose hashes are in this checkout (requirements/setup.sh).
VENV   := .venv
STAMP  := $(VENV)/.installed
# What `make run` needs: no tools of developers.
RUN_STAMP := $(VENV)/.runs
PINS   := pyproject.toml uv.lock requirements/uv.txt requirements/setup.sh
# Most of a test is waiting, so there are more workers than processors.
WORKERS ?= 6
# Programs are compiled once, not at each start: without compiled files `voicemail --version` takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run lab test check lint bench dist deb pins clean

run: $(RUN_STAMP)
	@exec $(VENV)/bin/voicemail sandbox

# The same with the FreeSWITCH of this machine: FREESWITCH_BIN, or `freeswitch` on PATH.
lab: $(RUN_STAMP)
	@exec $(VENV)/bin/python -m app.lab

test: lint
	$(VENV)/bin/python -m pytest -n $(WORKERS) --durations=20

# Everything but the drills that kill and restart things: for the time between two commits.
check: lint
	$(VENV)/bin/python -m pytest -n $(WORKERS) --ignore=tests/crash

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(STAMP)
	$(VENV)/bin/python -m benchmarks

# What is installed on a host (docs/operations.md): a wheel and a list of everything it needs, with hashes; or a Debian package.
dist: $(STAMP)
	UV="$(CURDIR)/$(VENV)/bin/uv" deploy/build_dist.sh dist

deb: $(STAMP)
	UV="$(CURDIR)/$(VENV)/bin/uv" deploy/build_deb.sh dist

# The newest uv and build backends, with their hashes.
pins: $(STAMP)
	$(VENV)/bin/python requirements/pin.py "$(CURDIR)/$(VENV)/bin/uv"

$(STAMP): $(PINS)
	@VENV="$(VENV)" PYTHON="$(PYTHON)" requirements/setup.sh dev
	@touch $@ $(RUN_STAMP)

$(RUN_STAMP): $(PINS)
	@VENV="$(VENV)" PYTHON="$(PYTHON)" requirements/setup.sh run
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
