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
ROWS ?= 1000
EXAMPLES ?= 12
ENDPOINT ?=
# More options of pytest.
OPTIONS ?=
# Compiled modules are kept, whatever the environment says: every worker, command and function would compile them anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo clean dist check lint test proof e2e localstack networks validate-exports api-fuzz browser
.PHONY: record check-long tools pythons mutants matrix drills long localstack-rest fuzz networks-long simulate soak load bench
.PHONY: causes savings hour browser-fronts pictures engines lint-templates race size organisations

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {print "\n" substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(LOCAL)/uv/bin/uv:
	@echo "installing uv below $(LOCAL)/ (once; a minute at most)" >&2
	@$(RUNS)
	@mkdir -p $(LOCAL) && $(PYTHON) -m infra.locked uv > $(LOCAL)/uv.txt
	@$(PYTHON) -m venv $(LOCAL)/uv 2>/dev/null && $(LOCAL)/uv/bin/python -m pip install $(LOCKED) -r $(LOCAL)/uv.txt \
	  || { rm -rf $(LOCAL)/uv; $(PYTHON) -m pip install $(LOCKED) --target $(LOCAL)/uv -r $(LOCAL)/uv.txt; }

# Says so if $(PYTHON) is none that can be used: the shim of a version manager may lead nowhere.
RUNS = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 || \
  { echo "$(PYTHON) does not run here, or is not Python 3.11 to 3.13. Name one that does: make install PYTHON=/usr/bin/python3.13" >&2; exit 1; }
# The interpreter itself, whatever it is called by.
ITSELF := 'import os, sys; print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))'

# If a Python is asked for, and .venv has another, everything is installed again.
ifneq (file,$(origin PYTHON))
$(STAMP): $(LOCAL)/python
endif
.PHONY: asked
asked:
$(LOCAL)/python: asked
	@$(RUNS)
	@mkdir -p $(LOCAL); [ -e $@ ] || touch -t 200001010000 $@
	@[ "$$($(PYTHON) -c $(ITSELF))" = "$$($(PY) -c $(ITSELF) 2>/dev/null)" ] || touch $@

$(STAMP): pyproject.toml uv.lock | $(filter $(LOCAL)/%,$(UV))
	@# Compiled once: a function or command that compiles its imports at every start takes twice as long to be there.
	@$(RUNS)
	@echo "installing what the project needs into .venv (a minute or two)" >&2
	@set -o pipefail; $(UV) sync --frozen --all-extras --compile-bytecode --python "$(RUNTIME)" 2>&1 | awk -f .ci/installing.awk >&2
	@# The script `cdk` uses the Node of the environment, and downloads none.
	@$(PY) -m infra.cdk_cli
	@touch $@

##@ Begin here

demo: $(STAMP) ## Run the whole service on this machine: deploy, replay real and synthetic traffic, prove, report; KEEP=1 leaves it up
	@.venv/bin/metering demo $(if $(KEEP),--keep)

install: $(STAMP) ## Install everything into .venv (the other targets do it on first use)

dist: $(STAMP) ## Build sdist and wheel into dist/, the wheel from the sdist, and the assemblies of stages that an account has
	@rm -rf dist infra/assemblies build/assemblies
	@$(PY) -m infra.artefact infra/assemblies local
	@$(PY) -m infra.artefact build/assemblies dev prod
	@$(UV) build --quiet
	@tar -C build -cf "dist/transfer_metering-$$($(PY) -c 'from metering.version import package_version; print(package_version())')-assemblies.tar" assemblies
	@ls dist/*.tar dist/*.tar.gz dist/*.whl

tools: $(STAMP) ## Install what needs an environment of its own, below .local/tools; kept as long as its lock is the same
	@$(PY) -m tests.tools

clean: ## Stop the local emulator and remove what was built or installed here
	@if [ -x .venv/bin/metering ]; then .venv/bin/metering local down || true; fi
	@rm -rf .venv $(LOCAL) build dist infra/cdk.out infra/assemblies .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Before every commit: make check runs all of these, in 15 minutes on two idle cores

check: $(STAMP) ## The gate, as CI runs it: each part, the time it took, and its share
	@$(PY) -m tests.gate check

lint: $(STAMP) ## Ruff, mypy --strict, import rules, workflows
	@.venv/bin/ruff format --check --quiet . && .venv/bin/ruff check --quiet .
	@.venv/bin/mypy --num-workers $(JOBS)
	@.venv/bin/lint-imports --no-logo
	@.venv/bin/zizmor --offline --quiet --no-progress --strict-collection --persona=auditor .github

test: $(STAMP) ## Unit, property, command line, fuzz and template tests
	@# A worker that is done takes tests of the other: the longest come late.
	@$(PYTEST) -q -n $(JOBS) --dist worksteal tests/unit tests/property tests/api tests/cli tests/fuzz tests/infra tests/mutants \
	  -m "not long"

proof: $(STAMP) ## Simulation, kill and lost-reply matrices, contract suites over memory and MiniStack
	@$(PYTEST) -q -n $(JOBS) tests/simulation tests/contract tests/integration -m "not long"

e2e: $(STAMP) ## The deployed service, regions and stage prod on MiniStack with IAM and TLS enforced; ENDPOINT=http://… for any other
	@# Each worker has an emulator of its own. At an endpoint all share one stage: one test after the other, and no regions.
	@METERING_E2E_ENDPOINT="$(ENDPOINT)" $(PYTEST) -q -rs $(if $(ENDPOINT),,-n $(JOBS) --dist loadfile --no-loadscope-reorder) \
	  tests/e2e $(OPTIONS) -m "not drill$(if $(ENDPOINT), and not regions)"

validate-exports: $(STAMP) ## Exports judged by validators of others, and wrong ones that they must find: ROWS=1000
	@$(PY) -m tests.validators --rows $(ROWS)

api-fuzz: $(STAMP) ## The HTTP API against its own document, by schemathesis, and seeded faults that it must find: EXAMPLES=12
	@$(PY) -m tests.api_fuzz --examples $(EXAMPLES)

networks: $(STAMP) ## Logs of generated networks, metered and compared with their truth, whatever is known beside them
	@$(PYTEST) -q -n $(JOBS) tests/networks -m "not emulator and not long"

organisations: $(STAMP) ## Templates and calls of commands, held against five usual organisations' policies; seeded breaches that each must find
	@$(PY) -m tests.organisations

browser: $(STAMP) ## The explorer page in a browser: figures, keyboard, states, accessibility; pictures below .local/browser
	@# Installs Debian's browser where apt-get is there. Without one the tests are skipped, and red where CI is set.
	@$(PY) -m tests.browser.program
	@$(PYTEST) -q -rs -n $(JOBS) tests/browser -m "browser and not emulator"

scale-small: $(STAMP) ## Each job once over a region of a ten-thousandth: that it comes to what the region has
	@$(PY) -m load_tests.scale --gate

##@ When an answer changes, or a room becomes larger

pictures: $(STAMP) ## The pictures of docs/pictures anew: each view in 3 sizes, light and dark, as the browser walk sees them
	@$(PY) -m tests.browser.program
	@mkdir -p docs/pictures
	@METERING_PICTURES=docs/pictures $(PYTEST) -q -n $(JOBS) tests/browser -m browser -k "every_view or the_api or who_leads"

causes: $(STAMP) ## Causes and destinations of generated networks: none wrong, sums equal, most of what is charged named
	@$(PYTEST) -q -n $(JOBS) tests/networks/test_causes.py -m "not long"

savings: $(STAMP) ## Planted wastes of generated networks are found, cost what was said once mended, and clean networks have none
	@$(PYTEST) -q -n $(JOBS) tests/networks/test_savings.py tests/unit/cli/test_savings.py tests/unit/reports/savings

record: $(STAMP) ## Record the answers of all read commands anew, and how they look: read the difference
	@$(PY) -m tests.cli.record
	@$(PY) -m tests.cli.snapshots

size: $(STAMP) ## Lines and files of each room beside 5c2c24bd; WRITE=1 lowers the budgets and writes the table of rooms
	@$(PY) -m tests.size $(if $(WRITE),--write)

##@ Before a release or a larger merge: make check-long runs all of these, in a little more than three hours

check-long: $(STAMP) ## What is long and rarely red, on a machine that does nothing else
	@$(PY) -m tests.gate check-long

pythons: $(STAMP) ## The quick suites on every Python that is supported and that this machine has
	@$(PY) -m tests.tools pythons $(JOBS)

mutants: $(STAMP) ## Seeded bugs: each must be found by a test
	@$(PY) -m tests.mutants

matrix: $(STAMP) ## Every fault at every call of every job, in memory and on MiniStack; the gate takes a part of them
	@$(PY) -m tests.simulation.matrix
	@METERING_EVERY_CALL=1 $(PYTEST) -q -n $(JOBS) tests/integration -k troubles

drills: BATCHES = 2000
drills: $(STAMP) ## Long drills on MiniStack: killed builds, removal, every runbook to its end, upgrade, prod whole, uninstall, a hostile token, a restore (BATCHES=20000)
	@# Each file has an emulator of its own; the runbooks, which mostly wait, run beside all others.
	@METERING_DRILL_BATCHES=$(BATCHES) $(PYTEST) -v -n $(JOBS) --dist loadfile tests/e2e -m drill

long: $(STAMP) ## Tests that are long and rarely red: memory and files over weeks, faults of log files on MiniStack, 5,000 requests in two worlds; all cases
	@METERING_ALL_CASES=1 $(PYTEST) -q -n $(JOBS) tests/unit tests/property tests/api tests/cli tests/infra tests/integration \
	  tests/networks/test_causes.py -m "long or cases or examples"

browser-fronts: $(STAMP) ## The page over every front of a deployed service: HTTP API, URL of the function, metering serve
	@$(PY) -m tests.browser.program
	@$(PYTEST) -q -rs tests/browser -m "browser and emulator"

localstack: $(STAMP) ## The main job and the API against LocalStack, installed by its lock (Python 3.13)
	@bash tests/e2e/localstack.sh --deselect=tests/e2e/test_lake.py --deselect=tests/e2e/test_money.py \
	  --deselect=tests/e2e/test_budgets.py --deselect=tests/e2e/test_alerts.py --deselect=tests/e2e/test_readme.py \
	  --deselect=tests/e2e/test_runbooks.py --deselect=tests/e2e/test_settings.py \
	  --deselect=tests/e2e/test_producers.py --deselect=tests/e2e/test_log_sources.py \
	  --deselect=tests/e2e/test_doctor.py --deselect=tests/e2e/test_localstack_page.py

localstack-rest: $(STAMP) ## The rest against LocalStack: its page, lake, money, logs, alerts
	@bash tests/e2e/localstack.sh -k "test_lake or test_money or test_budgets or test_alerts or test_readme or test_runbooks or test_settings or test_producers or test_log_sources or test_doctor or test_localstack_page"

fuzz: $(STAMP) ## Damaged messages and objects: ROUNDS=300000
	@FUZZ_ROUNDS=$(ROUNDS) $(PYTEST) -q -n $(JOBS) tests/fuzz

engines: $(STAMP) ## The lake in real Spark and in DuckDB's own reader: totals equal to the byte; Spark only where there is a Java
	@$(PY) -m tests.engines

hour: $(STAMP) ## What a first hour asks of a whole region: requests, CPU and wall of each question, with bars
	@$(PY) -m load_tests.hour

lint-templates: $(STAMP) ## All templates, held against cfn-lint and checkov; seeded faults that they must find
	@$(PY) -m tests.linters

networks-long: $(STAMP) ## Larger networks, every two pieces of knowledge missing, and processes that are killed on MiniStack
	@$(PY) -m tests.networks
	@$(PYTEST) -q tests/networks -m emulator

simulate: $(STAMP) ## Random histories with faults: SEEDS=20000
	@$(PY) -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS)

soak: $(STAMP) ## Long run through the real aggregator: BATCHES=200000; continues where it stopped
	@$(PY) -m load_tests.soak --batches $(BATCHES)

load: $(STAMP) ## Throughput, cost and memory through the deployed service on MiniStack
	@$(PY) -m load_tests.load

race: $(STAMP) ## This service beside what AWS's documentation would have a user build, on one emulator
	@$(PY) -m load_tests.race

scale: $(STAMP) ## Each job over computed regions of two sizes, and the multiple of the target that it holds at: 20 minutes
	@$(PY) -m load_tests.scale

bench: $(STAMP) ## Decoding, compaction, SQL over the lake, reports, the HTTP API, rating, flow logs, exports, each with a baseline in the same run
	@$(PY) -m load_tests.bench_decode
	@$(PY) -m load_tests.bench_compact
	@$(PY) -m load_tests.bench_query
	@$(PY) -m load_tests.bench_report
	@$(PY) -m load_tests.bench_api
	@$(PY) -m load_tests.bench_who
	@$(PY) -m load_tests.billing.bench_rating
	@$(PY) -m load_tests.billing.bench_costs
	@$(PY) -m load_tests.bench_onramps
	@$(PY) -m load_tests.bench_exports
