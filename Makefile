# `make run` and `make test` need only Python 3.11 and make; everything else is installed into .venv.
PYTHON ?= python3.11
VENV   := .venv
STAMP  := $(VENV)/.installed
# Most of a test is waiting, so there are more workers than processors.
WORKERS ?= 6
# Programs are compiled once, not at each start: without compiled files `voicemail --version` takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run lab test check lint bench dist deb clean

run: $(STAMP)
	@exec $(VENV)/bin/voicemail sandbox

# The same with the FreeSWITCH of this machine: FREESWITCH_BIN, or `freeswitch` on PATH.
lab: $(STAMP)
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

$(STAMP): pyproject.toml uv.lock
	@echo "voicemail: setting up $(VENV) (once; about half a minute) ..."
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed; say which with: make PYTHON=python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(VENV)/bin/uv sync --active --frozen --all-extras --no-progress
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
