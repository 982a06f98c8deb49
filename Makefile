# Everything is installed by the project's own files: a machine needs Python 3.11-3.13 and make, nothing else.
.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/bash
PYTHON ?= python3
# What everything runs on: the one that was asked for, else the fastest.
RUNTIME = $(if $(filter file,$(origin PYTHON)),$(shell $(PYTHON) .ci/fastest_python.py),$(PYTHON))
LOCAL := .local

# uv from PATH if it is there, else an own copy under .local/.
UV := $(shell command -v uv 2>/dev/null || echo $(LOCAL)/uv/bin/uv)
# The version that uv.lock says, and only if its hash is right.
LOCKED := --quiet --require-hashes --only-binary :all:
STAMP := .venv/.installed
PY := .venv/bin/python
PYTEST := $(PY) -m pytest

SEEDS ?= 20000
JOBS ?= 2
BATCHES ?= 200000
ROUNDS ?= 300000
ENDPOINT ?=
# More options of pytest.
OPTIONS ?=

.PHONY: help install demo clean dist check lint test proof e2e localstack regions
.PHONY: check-long tools pythons mutants matrix drills localstack-lake fuzz simulate soak load bench

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {print "\n" substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(LOCAL)/uv/bin/uv:
	@echo "installing uv below $(LOCAL)/" >&2
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, this is %d.%d" % v)'
	@mkdir -p $(LOCAL) && $(PYTHON) -m infra.locked uv > $(LOCAL)/uv.txt
	@$(PYTHON) -m venv $(LOCAL)/uv 2>/dev/null && $(LOCAL)/uv/bin/python -m pip install $(LOCKED) -r $(LOCAL)/uv.txt \
	  || { rm -rf $(LOCAL)/uv; $(PYTHON) -m pip install $(LOCKED) --target $(LOCAL)/uv -r $(LOCAL)/uv.txt; }

$(STAMP): pyproject.toml uv.lock | $(filter $(LOCAL)/%,$(UV))
	@# Compiled once: a function or command that compiles its imports at every start takes twice as long to be there.
	@$(UV) sync --quiet --frozen --all-extras --compile-bytecode --python "$(RUNTIME)"
	@touch $@

##@ Begin here

demo: $(STAMP) ## Run the whole service on this machine: deploy, replay real and synthetic traffic, report, prove
	@.venv/bin/metering demo

install: $(STAMP) ## Install everything into .venv (the other targets do it on first use)

dist: $(STAMP) ## Build sdist and wheel into dist/, the wheel from the sdist
	@rm -rf dist
	@$(UV) build --quiet
	@ls dist/*.tar.gz dist/*.whl

tools: $(STAMP) ## Install what needs an environment of its own, below .local/tools; kept as long as its lock is the same
	@$(PY) -m tests.tools

clean: ## Stop the local emulator and remove what was built or installed here
	@if [ -x .venv/bin/metering ]; then .venv/bin/metering local down || true; fi
	@rm -rf .venv $(LOCAL) build dist infra/cdk.out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Before every commit: make check runs all of these, in 15 minutes on two idle cores

check: $(STAMP) ## The gate, as CI runs it: each part, the time it took, and its share
	@$(PY) -m tests.gate check

lint: $(STAMP) ## Ruff, mypy --strict, import rules
	@.venv/bin/ruff format --check --quiet . && .venv/bin/ruff check --quiet .
	@.venv/bin/mypy --num-workers $(JOBS)
	@.venv/bin/lint-imports --no-logo

test: $(STAMP) ## Unit, property, fuzz and template tests
	@$(PYTEST) -q -n $(JOBS) tests/unit tests/property tests/fuzz tests/infra tests/mutants

proof: $(STAMP) ## Simulation, kill and lost-reply matrices, contract suites over memory and MiniStack
	@$(PYTEST) -q -n $(JOBS) tests/simulation tests/contract tests/integration

e2e: $(STAMP) ## The deployed service on MiniStack with IAM and TLS enforced; ENDPOINT=http://… for any other
	@METERING_E2E_ENDPOINT="$(ENDPOINT)" $(PYTEST) -q -rs tests/e2e $(OPTIONS) -m "not regions and not drill"

localstack: $(STAMP) ## The same against LocalStack, but for the lake; skipped where there is none
	@bash tests/e2e/localstack.sh --deselect=tests/e2e/test_lake.py

regions: $(STAMP) ## Six regions built and reconciled on MiniStack
	@$(PYTEST) -q tests/e2e -m "regions and not drill"

##@ Before a release or a larger merge: make check-long runs all of these, in an hour and a half

check-long: $(STAMP) ## What is long and rarely red, on a machine that does nothing else
	@$(PY) -m tests.gate check-long

pythons: $(STAMP) ## The quick suites on every Python that is supported and that this machine has
	@$(PY) -m tests.tools pythons $(JOBS)

mutants: $(STAMP) ## Seeded bugs: each must be found by a test
	@$(PY) -m tests.mutants

matrix: $(STAMP) ## Every fault at every call of every job, in memory; the gate takes a part of them
	@$(PY) -m tests.simulation.matrix

drills: $(STAMP) ## Long drills on MiniStack: killed and resumed builds, traffic, removal, runbook commands, a broken total
	@$(PYTEST) -v tests/e2e -m drill

localstack-lake: $(STAMP) ## The lake's commands against LocalStack; skipped where there is none
	@bash tests/e2e/localstack.sh -k test_lake

fuzz: $(STAMP) ## Damaged messages and objects: ROUNDS=300000
	@FUZZ_ROUNDS=$(ROUNDS) $(PYTEST) -q -n $(JOBS) tests/fuzz

simulate: $(STAMP) ## Random histories with faults: SEEDS=20000
	@$(PY) -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS)

soak: $(STAMP) ## Long run through the real aggregator: BATCHES=200000; continues where it stopped
	@$(PY) -m load_tests.soak --batches $(BATCHES)

load: $(STAMP) ## Throughput, cost and memory through the deployed service on MiniStack
	@$(PY) -m load_tests.load

bench: $(STAMP) ## Decoding, compaction, SQL over the lake and an account's report, each with a baseline in the same run
	@$(PY) -m load_tests.bench_decode
	@$(PY) -m load_tests.bench_compact
	@$(PY) -m load_tests.bench_query
	@$(PY) -m load_tests.bench_report
