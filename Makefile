# Everything that is done with a clone. `make help` lists it.
#
# PYTHON=python3.12 chooses the interpreter; the virtual environment is then .venv-3.12, so that
# several live side by side. VENV=DIR names another place.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check format settings bench bench-static build clean distclean

# What a virtual environment needs; Debian has ensurepip in a package of its own.
usable := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(usable)' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
else
VENV ?= .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
endif
python := $(VENV)/bin/python

# How many tests run at once. Most of them wait for sockets, so two are right even on one core.
JOBS ?= 2
# What else is handed on: TESTS='-k cli', ARGS='-k epoll -b 127.0.0.1:0'.
TESTS ?=
ARGS ?=

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp  ## serve examples/flask_app.py, with html/ at /site/ (ARGS='-k epoll')
	$(VENV)/bin/wsgiserver --chdir examples flask_app:app \
		--documents-root ../html --static-url /site/ $(ARGS)

test: $(VENV)/dev.stamp  ## run the tests (TESTS='-k cli', JOBS=4)
	PYTHONDEVMODE=1 $(python) -W error -m pytest -n $(JOBS) $(TESTS)

check: $(VENV)/dev.stamp  ## format, lint, types, and docs/settings.md against the options
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy
	$(python) docs/generate_settings.py --check

format: $(VENV)/dev.stamp  ## put the files into the form that `make check` asks for
	$(python) -m ruff format .
	$(python) -m ruff check --fix .

settings: $(VENV)/dev.stamp  ## write docs/settings.md anew
	$(python) docs/generate_settings.py

bench: $(VENV)/bench.stamp  ## compare with other servers; needs wrk (ARGS=--quick)
	$(python) -m benchmarks $(ARGS)

bench-static: $(VENV)/bench.stamp  ## compare how files are served; needs wrk and nginx (ARGS=--quick)
	$(python) -m benchmarks.static $(ARGS)

build: $(VENV)/dev.stamp  ## sdist and wheel, in dist/
	$(python) -m build

clean:  ## remove what was built, and the caches
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name '.venv*' -prune -o -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## also remove the virtual environments
	rm -rf .venv .venv-*

# --- the virtual environment ----------------------------------------------------------------------

$(python):
	@$(or $(PYTHON),false) -c '$(usable)' >/dev/null 2>&1 || { \
		echo "$(or $(PYTHON),python3) is not Python 3.11 or newer with the module venv." >&2; \
		echo "Install one (on Debian: apt install python3 python3-venv), or name one:" \
			"make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@# What a broken attempt leaves would pass for an environment.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/run.stamp: setup.cfg pyproject.toml | $(python)
	$(python) -m pip install -qq --editable '.[all]' flask
	@touch $@

$(VENV)/dev.stamp: setup.cfg pyproject.toml | $(python)
	$(python) -m pip install -qq --editable '.[dev]'
	@touch $@

# A server that cannot be built here (bjoern needs libev's headers) is left out of the comparison.
$(VENV)/bench.stamp: benchmarks/requirements.txt $(VENV)/dev.stamp
	@sed 's/ *#.*//; /^$$/d' benchmarks/requirements.txt | while read -r one; do \
		$(python) -m pip install -qq "$$one" || echo "left out: $$one" >&2; done
	@touch $@
