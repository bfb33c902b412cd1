# Every target is documented by the text behind its "##"; `make` alone lists them.
# Another Python, beside the first: make PYTHON=python3.13 VENV=build/py3.13 test
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(VENV)/.run-ready
SDK    := $(VENV)/.sdk-ready
DEV    := $(VENV)/.dev-ready
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help install serve test chaos scenarios check format lint types contracts generate bench lock layer deploy aws-local clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-11s %s\n", $$1, $$2}'

# A virtual environment that was only half made would be taken for whole the next time.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Makoto needs Python 3.11 or newer; name one with PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN): $(BIN)/python requirements.txt pyproject.toml
	@echo "Installing what the gateway needs into $(VENV)"
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation --no-index -e .
	@touch $@

# What the layer holds has the SDK of AWS, at the same versions as elsewhere.
$(SDK): $(RUN) layers/common/requirements.txt
	@echo "Installing the SDK of AWS into $(VENV)"
	@$(PIP) --require-hashes --no-deps -r layers/common/requirements.txt
	@touch $@

$(DEV): $(BIN)/python requirements-dev.txt pyproject.toml
	@echo "Installing what tests and checks need into $(VENV)"
	@$(PIP) --require-hashes -r requirements-dev.txt
	@$(PIP) --no-deps --no-build-isolation --no-index -e .
	@touch $(RUN) $(SDK) $@

serve: $(RUN) ## start the gateway on loopback and print the URL of the demo page
	@exec $(BIN)/makoto serve

# Where a process of the tests dies the run ends: with `loadgroup`, one in its place would wait for ever.
test: $(DEV) ## run every test; installs the engines they need when it can
	@sh tests/install-engines.sh $(VENV)/engines
	$(BIN)/python -m pytest -n auto --dist loadgroup --max-worker-restart=0 $(ARGS)

check: format lint types contracts ## format, lint, strict types, import contracts; changes nothing where CI is set

format: $(DEV)
	$(BIN)/ruff format $(if $(CI),--check) .

lint: $(DEV)
	$(BIN)/ruff check .

types: $(DEV)
	$(BIN)/mypy

contracts: $(DEV)
	$(BIN)/lint-imports --no-cache

generate: $(DEV) ## write what is made from the code: JSON Schema, AsyncAPI, TypeScript types, README's settings
	$(BIN)/python -m gateway.wire.generate
	$(BIN)/python -m gateway.settings_table

install: $(RUN) ## only install what the gateway needs

SECONDS ?= 60
CLIENTS ?= 100
chaos: $(DEV) ## break a real server for SECONDS=60, with CLIENTS=100, and judge what its clients saw
	$(BIN)/python -m tests.promises.nemesis --seconds $(SECONDS) --clients $(CLIENTS) $(if $(SEED),--seed $(SEED))

scenarios: $(DEV) ## write anew what the scenarios' transcripts shall be, where both hosts agree
	SCENARIOS=write $(BIN)/python -m pytest -q tests/gateway/hosts/test_scenarios.py

bench: $(DEV) ## measure the parser and the gateway beside others, interleaved; prints ratios
	$(BIN)/python -m bench

lock: ## resolve the requirement files again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --extra build pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --extra build --extra aws --extra dev --extra bench -c requirements.txt pyproject.toml -o requirements-dev.txt
	uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --extra aws --excludes layers/common/excludes.txt -c requirements-dev.txt \
	  pyproject.toml -o layers/common/requirements.txt
	for engine in ministack sam; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    tests/engines/requirements-$$engine.in -o tests/engines/requirements-$$engine.txt || exit 1; \
	done

layer: $(SDK) ## build, publish, roll back or prune the Lambda layer: make layer ARGS="rollback --env prod"
	@exec $(MAKOTO) layer $(or $(ARGS),--help)

ENV    ?= dev
SAM     = $(or $(wildcard $(VENV)/engines/sam/bin/sam),sam)
MAKOTO  = $(BIN)/makoto

# On its command line SAM takes all parameters or none: those of samconfig.toml are handed over with the layer's.
deploy: $(SDK) ## deploy to AWS with your credentials: make deploy ENV=dev|staging|prod (docs/aws.md)
	parameters=$$($(MAKOTO) layer publish --env $(ENV) --overrides) && eval "set -- $$parameters" && \
	  SAM_CLI_TELEMETRY=0 $(SAM) deploy --template-file infra/template.yaml \
	  --config-file "$(CURDIR)/infra/samconfig.toml" --config-env $(ENV) $(CONFIRM) --parameter-overrides "$$@"

aws-local: $(DEV) ## deploy the same template into an emulator on this machine, to talk to
	@sh tests/install-engines.sh $(VENV)/engines
	@exec $(BIN)/python -m tests.infra.aws_local

clean: ## remove the virtual environment and every cache (the data folder var/ stays)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
