# Everything a person does here. `make up` and `make test` set the machine up by themselves.
.DEFAULT_GOAL := help
PYTHON ?= python3
# uv from the machine if it is there, else our own copy of it under .uv/
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
# the interpreter that was asked for; else uv takes the first on the PATH that is new enough
CHOSEN := $(if $(filter file,$(origin PYTHON)),,--python $(PYTHON))
RUN := $(UV) run --frozen --no-sync
# pytest-xdist workers: half as many again as cores, since many tests wait
JOBS ?= $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))
# The tests' databases and streams lie in memory where there is room: no test cuts the power, and a disk's sync costs minutes
SCRATCH := $(shell df --output=avail,target /dev/shm 2>/dev/null | awk '$$1 + 0 > 4000000 { print "TMPDIR=" $$2 }')

# What to do when a download fails: pip's own words are "No matching distribution", and apt's end up far above.
fetched = || { echo "$(1) could not be fetched (see above). Is the network there? Behind a proxy set HTTPS_PROXY; with another package index, $(2)." >&2; exit 1; }

.PHONY: help setup up test check format generate migration faults bench browser postgresql languages clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.synced ## install uv (where it is missing) and every dependency, from the lock file

.uv/bin/uv:
	@echo "uv is not on this machine: putting a copy under .uv/"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Beaconfire needs Python 3.11 or newer; $(PYTHON) is older. Say which: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv .uv || { echo "python3 -m venv failed. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8' $(call fetched,uv,PIP_INDEX_URL. Or put uv 0.8 or newer on the PATH)

ifeq ($(UV),.uv/bin/uv)
.venv/.synced: .uv/bin/uv
endif
.venv/.synced: pyproject.toml shared/pyproject.toml $(wildcard services/*/pyproject.toml) tools/pyproject.toml demo/pyproject.toml uv.lock
	@$(UV) sync --frozen --quiet $(CHOSEN) $(call fetched,Python packages of uv.lock,UV_DEFAULT_INDEX)
	@touch $@

# the TypeScript compiler, which reads the browser client's JSDoc types
clients/js/node_modules/.package-lock.json: clients/js/package.json clients/js/package-lock.json
	@deploy/install-languages.sh node $(call fetched,Node,/etc/apt/sources.list. Or put node and npm on the PATH)
	@cd clients/js && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error $(call fetched,npm packages of clients/js,NPM_CONFIG_REGISTRY)
	@touch $@

up: setup ## start everything and print the address to open
	@$(RUN) beaconfire up $(ARGS)

browser: ## install Chromium for the browser tests, where it is missing
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || deploy/install-chromium.sh $(call fetched,Chromium,/etc/apt/sources.list. Or put chromium on the PATH)

postgresql: ## install PostgreSQL's programs for the tests, where they are missing
	@[ -n "$(POSTGRES_URL)" ] || command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || deploy/install-postgresql.sh $(call fetched,PostgreSQL,/etc/apt/sources.list. Or set POSTGRES_URL)

languages: ## install Go, Node, curl and cc for the tests of examples/ and bench/, where they are missing
	@deploy/install-languages.sh $(call fetched,What the examples' tests need,/etc/apt/sources.list)

test: setup browser postgresql languages ## run every test (starts its own nats-server, PostgreSQL, services and browser)
	@$(SCRATCH) $(RUN) pytest -n $(JOBS) --dist worksteal $(ARGS)

check: setup clients/js/node_modules/.package-lock.json ## what must hold before a commit: lint, format, types, imports, generated files
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@cd clients/js && npm run --silent types
	@$(RUN) lint-imports
	@$(RUN) python -m scripts.generate --check
	@$(RUN) python -m scripts.migrations check
	@$(RUN) python -m scripts.features
	@$(RUN) python -m scripts.audit

format: setup ## put every file into house style
	@$(RUN) ruff check --fix-only --quiet .
	@$(RUN) ruff format .

generate: setup ## write what is derived from the catalogue and the tables
	@$(RUN) python -m scripts.generate

faults: setup ## hurt every part for some minutes, under load, and report what each client did
	@$(RUN) python -m tests.faults $(ARGS)

migration: setup ## write the next revision of a service's tables: SERVICE=auth TITLE="…"
	@$(RUN) python -m scripts.migrations write "$(SERVICE)" "$(TITLE)"

bench: setup ## measure what one gateway does on one core of this machine (some minutes)
	@$(RUN) python -m bench $(ARGS)

clean: ## remove what the tools left behind, and the data of `make up`
	@rm -rf clients/js/node_modules .venv .uv .beaconfire .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
