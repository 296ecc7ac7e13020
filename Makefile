# `make demo` and `make test` set up what they need in .venv; the second time is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults simulate lint bench botfarm lock sign sbom clean

help: ## show this help
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## make .venv with everything in it

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "flashclaim needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@.ci/locks verify
	$(PYTHON) -m venv $(VENV)
	@echo "installing the parts (about half a minute, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## the lychee rush on real servers; DEMO_MEMBERS=2000 for a short one
	@$(BIN)/python -m loadtests.demo

test: $(STAMP) ## all tests, on a real Valkey and a real PostgreSQL
	@$(BIN)/python -m pytest -n 2

faults: $(STAMP) ## each fault of docs/faults.md five times in mid-rush, PostgreSQL away for a minute; about half an hour
	@FAULT_DOWN_S=60 $(BIN)/python -m tests.faults

simulate: $(STAMP) ## the engine on a simulated network, SEEDS=10000 times; about six minutes
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000) --first $(or $(FIRST),0)

lint: $(STAMP) ## style, types, secrets, known vulnerabilities
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/mypy
	@.ci/locks verify
	@BIN=$(BIN) .ci/secrets
	@$(BIN)/python .ci/advisories.py

bench: $(STAMP) ## our claim path beside what people would use instead; about eight minutes
	@$(BIN)/flashclaim bench --json .flashclaim/bench.json --chart .flashclaim/bench.svg

lock: ## rebuild both lock files after a change to pyproject.toml; pins stay unless they must move
	@.ci/locks rebuild $(PYTHON)

sign: ## sign both lock files: make sign KEY=~/.ssh/id_ed25519
	@.ci/locks sign $(KEY)

sbom: $(STAMP) ## dist/sbom.cdx.json: what the image is made of, as CycloneDX
	@mkdir -p dist
	@$(BIN)/python .ci/sbom.py > dist/sbom.cdx.json
	@echo "dist/sbom.cdx.json"
botfarm: $(STAMP) ## members beside a bot farm; about six minutes
	@$(BIN)/python -m loadtests.botfarm

clean: ## remove .venv, caches and local data
	rm -rf $(VENV) .flashclaim .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
