# Every verb of the project. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
PY := $(BIN)/python
GEN := gen
BUF := protos/node_modules/.bin/buf
CODE := runtime services deploy tests
SERVICES := auth data gateway chat edge
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run operator trace test check fix lint type arch unit contract e2e proto proto-check buf lock lock-check web web-check bench bench-peers bench-peers-lock chaos clean

help: ## lists the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: .venv/ready ## creates the environment in .venv from locks/all.txt

# The tree itself is the package: a .pth file puts it and gen/ on the path, so that nothing is built or copied.
.venv/ready: locks/all.txt locks/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Parley needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	@echo "Creating the environment in .venv (once) …"
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt
	@$(BIN)/uv pip sync --quiet --python $(PY) --require-hashes --compile-bytecode locks/all.txt
	@printf '%s\n%s\n' "$(CURDIR)" "$(CURDIR)/gen" > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parley.pth"
	@touch $@

run: setup ## starts the whole system on this machine and prints its URL
	@exec $(PY) -m deploy.local run $(ARGS)

operator: setup ## makes EMAIL=… an operator of the running local system; VERB=revoke takes it back
	@PARLEY_AUTH_DATABASE_URL_FILE="$${PARLEY_HOME:-$(CURDIR)/.parley}/secrets/parley_auth_url" $(PY) -m services.auth operator $(or $(VERB),grant) "$(EMAIL)"

trace: setup ## shows the last turn's trace of the running system
	@exec $(PY) -m deploy.local trace

test: setup ## runs every test that this machine can run; with ARGS, what pytest is given
	@$(PY) -m $(if $(ARGS),pytest $(ARGS),tests --durations=10)

check: lint type arch proto-check lock-check web-check tests/clients/node_modules/ready test ## runs all that CI runs

fix: setup ## mends what can be mended: format, imports, generated code
	$(BIN)/ruff check --quiet --fix $(CODE)
	$(BIN)/ruff format --quiet $(CODE)
	cd web && npm run --silent fix
	$(MAKE) --no-print-directory proto

lint: setup ## ruff: rules and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check --quiet $(CODE)

type: setup ## mypy, strict
	$(BIN)/mypy $(CODE)

arch: setup ## the architecture as import contracts
	$(BIN)/lint-imports

unit: setup ## tests without servers
	$(PY) -m pytest tests/unit $(ARGS)

contract: setup ## tests of each service against real stores
	$(PY) -m pytest tests/contract $(ARGS)

e2e: setup ## tests of the whole system through the edge
	$(PY) -m pytest tests/e2e $(ARGS)

proto: setup ## generates gen/ from protos/
	@mkdir -p $(GEN)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PY) -m grpc_tools.protoc -Iprotos --python_out=$(GEN) --grpc_python_out=$(GEN) \
	  --mypy_out=quiet:$(GEN) --mypy_grpc_out=quiet:$(GEN) $(sort $(wildcard protos/parley/*/v1/*.proto))

proto-check: setup $(BUF) ## gen/ is what protos/ say; protos pass buf lint and break no caller
	@rm -rf .venv/gen && $(MAKE) --no-print-directory proto GEN=.venv/gen
	@diff -r --exclude=__pycache__ gen .venv/gen || { echo "gen/ differs from protos/: run 'make proto', remove what is left over, commit"; exit 1; }
	$(BUF) lint
	$(BUF) breaking --against protos/released.binpb

buf: $(BUF) ## makes today's contracts the ones that may not be broken (at a release)
	$(BUF) build -o protos/released.binpb

$(BUF): protos/package.json
	@cd protos && npm install --silent
	@touch $@

lock: setup ## resolves locks/ anew; ARGS=--upgrade takes newer versions
	$(LOCK) --all-extras --group dev $(ARGS) -o locks/all.txt
	@for service in $(SERVICES); do $(LOCK) --extra $$service -c locks/all.txt -o locks/$$service.txt || exit 1; done
	@grep '^uv==' locks/all.txt | cut -d' ' -f1 | $(BIN)/uv pip compile - --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate --quiet -o locks/uv.txt

lock-check: setup ## locks/ fit pyproject.toml and name no host
	@cp -rp locks .venv/locks-before && $(MAKE) --no-print-directory lock; code=$$?; \
	  diff -rq locks .venv/locks-before || code=1; rm -rf locks && mv .venv/locks-before locks; \
	  ! grep -n '://' locks/*.txt && test $$code -eq 0 || { echo "locks/ are stale: run 'make lock'"; exit 1; }

web: web/node_modules/ready ## builds the page into web/dist
	cd web && npm run --silent build

web-check: web/node_modules/ready ## lints, type-checks and tests the page; web/dist is what it builds
	cd web && npm run --silent lint && npm run --silent typecheck && npm run --silent test && npm run --silent build
	@test -z "$$(git status --porcelain web/dist)" || { git status --short web/dist; echo "web/dist is stale: commit what 'make web' made"; exit 1; }

web/node_modules/ready: web/package-lock.json
	@cd web && npm ci --silent
	@touch $@

tests/clients/node_modules/ready: tests/clients/package-lock.json
	@cd tests/clients && npm ci --silent
	@touch $@

bench: setup ## measures Parley against the bare provider; ARGS=--quick for a short run
	$(PY) -m tests.bench $(ARGS)

bench-peers: setup .parley/bench-peers/ready ## measures LiteLLM's proxy and Portkey beside Parley; ARGS=--quick for a short run
	$(PY) -m tests.bench --peers $(ARGS)

# Each has an environment of its own, so that nothing of theirs is in Parley's. Node is needed.
.parley/bench-peers/ready: tests/bench/peers/litellm.txt tests/bench/peers/portkey/package-lock.json
	@echo "Installing LiteLLM's proxy and Portkey below .parley/bench-peers (once) …"
	@rm -rf $(@D) && mkdir -p $(@D)/portkey
	@$(PYTHON) -m venv --without-pip $(@D)/litellm
	@$(BIN)/uv pip sync --quiet --python $(@D)/litellm/bin/python --require-hashes --compile-bytecode $<
	@cd tests/bench/peers/portkey && cp package.json package-lock.json .npmrc $(CURDIR)/$(@D)/portkey/
	@cd $(@D)/portkey && npm ci --silent
	@touch $@

bench-peers-lock: setup # resolves what bench-peers installs anew
	@cd tests/bench/peers && $(CURDIR)/$(BIN)/uv pip compile litellm.in --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links --quiet $(ARGS) -o litellm.txt
	@cd tests/bench/peers/portkey && rm -f package-lock.json && npm install --package-lock-only --silent

chaos: setup ## hurts the running system for half an hour and checks that everything held; ARGS="--minutes 5 --fault kill-chat"
	$(PY) -m tests.chaos --minutes 30 $(ARGS)

clean: ## removes the environment and what tools left behind, not the data in .parley
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache web/node_modules protos/node_modules tests/clients/node_modules .parley/bench-peers
