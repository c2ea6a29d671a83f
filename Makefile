# `make` lists the targets.
SHELL := /bin/bash -euo pipefail
PY := .venv/bin/python
INSTALLED := .venv/.installed
# Two processes share the files of tests: most of the time is waiting for clusters.
SHARED := -n 2 --dist loadfile --no-loadscope-reorder

# Continuous integration has every service: there a missing one is a failure, not a skip.
ifeq ($(CI),true)
export WPS_HPC_REQUIRE_CLUSTERS := 1
endif

.PHONY: help venv services gdal demo test test-all test-slurm-versions check format schemas conformance bench bench-slurm bench-gridengine bench-containers bench-transports clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 21

venv: $(INSTALLED) ## make .venv with everything the tests import

# The newest Python that really runs: a name on the PATH may be a version manager's stub.
$(INSTALLED): setup.cfg
	@if ! [ -x $(PY) ]; then \
	  pyenv="$${PYENV_ROOT:-$$HOME/.pyenv}/versions"; \
	  candidates="$(PYTHON)"; \
	  for v in 3.14 3.13 3.12 3.11; do candidates+=" python$$v $$(echo "$$pyenv"/$$v.*/bin/python)"; done; \
	  for python in $$candidates python3; do \
	    if "$$python" -c 'import sys, ensurepip, sqlite3, ssl; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      found=$$python; break; \
	    fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then echo "No Python >= 3.11 found; name one: make venv PYTHON=/path/to/python" >&2; exit 1; fi; \
	  echo "making .venv with $$("$$found" --version) ($$found)"; \
	  "$$found" -m venv --clear .venv; \
	fi
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[test,drmaa,examples,postgres,pywps,ssh]'
	@touch $@

services: ## install the system packages that the tests use
	@tests/services/install.sh

gdal:
	@tests/services/install.sh gdal-bin

demo: venv gdal ## start a server and run a real process on real data
	@$(PY) -m wps_hpc.examples.demo

test: venv services check ## checks, then all tests but the slow ones
	$(PY) -m pytest $(SHARED) -m "not slow and not slurm_versions"

test-all: venv services check ## every test but those of the next target
	$(PY) -m pytest $(SHARED) -m "not slurm_versions"

test-slurm-versions: venv services ## the tests on Slurm, on those of newer Debian releases (root; 2 GB, once)
	@tests/services/install.sh debootstrap
	@for release in trixie sid; do tests/services/debian_root.sh $$release tests/.slurm-versions/$$release; done
	$(PY) -m pytest -m slurm_versions

check: venv ## format, lint and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy --strict

format: venv ## bring the code into the project's format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix-only .

schemas: venv ## download the OGC schemas that the tests validate against
	$(PY) -m tests.download_schemas

conformance: venv ## write docs/conformance.md from the tests in tests/conformance
	$(PY) -m tests.conformance

bench: venv ## requests per second, beside PyWPS
	$(PY) benchmarks/protocol.py

bench-slurm: venv services ## the costs of the server beside Slurm alone, on a real Slurm (root)
	PYTHONPATH=. $(PY) benchmarks/slurm.py

bench-gridengine: venv services ## asynchronous jobs beside PyWPS's scheduler mode, on a real Grid Engine (root)
	PYTHONPATH=. $(PY) benchmarks/gridengine.py

bench-containers: venv services ## the start of a launcher in each container runtime beside a bare one (root)
	PYTHONPATH=. $(PY) benchmarks/containers.py

bench-transports: venv services ## one scheduler command here, and over either kind of SSH connection
	PYTHONPATH=. $(PY) benchmarks/transports.py

clean: ## remove what was built or cached (not .venv)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/.images
	find . -name __pycache__ -not -path './.venv/*' -not -path './tests/.slurm-versions/*' -not -path './tests/.docker-cluster/*' -prune -exec rm -rf {} +
