# Everything that a developer does here. `make up` and `make test` set the machine up automatically.
.DEFAULT_GOAL := help
PYTHON ?= python3
# Use the machine's uv if it has one, or else our own copy under .uv/.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
# Use the requested interpreter. Otherwise uv takes the first one on the PATH that is new enough.
CHOSEN := $(if $(filter file,$(origin PYTHON)),,--python $(PYTHON))
RUN := $(UV) run --frozen --no-sync
# The number of pytest-xdist workers: one and a half times the cores, because many tests wait.
JOBS ?= $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))
# The slowest tests, so that whoever adds one sees what it costs.
SLOWEST = --durations 30 --durations-min 5
# If there is room, the tests' databases and streams are in memory. No test cuts the power, and syncing a disk costs minutes.
SCRATCH := $(shell df --output=avail,target /dev/shm 2>/dev/null | awk '$$1 + 0 > 4000000 { print "TMPDIR=" $$2 }')

# Print what to do when a download fails. pip only says "No matching distribution", and apt's message is far above.
fetched = || { echo "$(1) could not be downloaded (see above). Check the network. Behind a proxy, set HTTPS_PROXY. For another package index, set $(2)." >&2; exit 1; }

# After all other tests, `make test` also runs those that need a Docker engine, if one is reachable.
containers = if timeout 10 docker info >/dev/null 2>&1; then $(MAKE) --no-print-directory test-containers; else \
	echo "The tests of containers were left out, because no Docker engine is reachable. make test-containers installs one and runs them."; fi

.PHONY: help setup up test test-containers check audit format generate migration faults bench wheels packages docs docs-serve sbom record browser postgresql languages proxies monitoring clocks clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.synced ## install uv if it is missing, and every dependency from the lock file

.uv/bin/uv:
	@echo "Installing uv under .uv/"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Beaconfire needs Python 3.11 or newer; $(PYTHON) is older. Choose another one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv .uv || { echo "python3 -m venv failed. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8' $(call fetched,uv,PIP_INDEX_URL. Or put uv 0.8 or newer on the PATH)

ifeq ($(UV),.uv/bin/uv)
.venv/.synced: .uv/bin/uv
endif
.venv/.synced: pyproject.toml shared/pyproject.toml $(wildcard services/*/pyproject.toml) tools/pyproject.toml demo/pyproject.toml clients/python/pyproject.toml uv.lock
	@$(UV) sync --frozen --quiet $(CHOSEN) $(call fetched,Python packages of uv.lock,UV_DEFAULT_INDEX)
	@touch $@

# The TypeScript compiler reads the browser client's JSDoc types, and esbuild measures how large its core is.
clients/js/node_modules/.package-lock.json: clients/js/package.json clients/js/package-lock.json
	@deploy/install-languages.sh node $(call fetched,Node,/etc/apt/sources.list. Or put node and npm on the PATH)
	@cd clients/js && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error $(call fetched,npm packages of clients/js,NPM_CONFIG_REGISTRY)
	@cp clients/js/package-lock.json clients/js/node_modules/.installed-lock.json # the tests install nothing again
	@touch $@

clients/react/node_modules/.package-lock.json: clients/react/package.json clients/react/package-lock.json
	@cd clients/react && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error $(call fetched,npm packages of clients/react,NPM_CONFIG_REGISTRY)
	@touch $@

up: setup ## start everything and print the address to open
	@$(RUN) beaconfire up $(ARGS)

browser: ## install Chromium and Firefox for the browser tests, if they are missing
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || deploy/install-chromium.sh $(call fetched,Chromium,/etc/apt/sources.list. Or put chromium on the PATH)
	@command -v firefox >/dev/null || deploy/install-packages.sh "the browser tests" firefox-esr=firefox-esr $(call fetched,Firefox,/etc/apt/sources.list. Or put firefox on the PATH)

postgresql: ## install PostgreSQL's programs for the tests, if they are missing
	@[ -n "$(POSTGRES_URL)" ] || command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || deploy/install-postgresql.sh $(call fetched,PostgreSQL,/etc/apt/sources.list. Or set POSTGRES_URL)

languages: ## install Go, Node, curl, cc and Redis for the tests of examples/ and bench/, if they are missing
	@deploy/install-languages.sh $(call fetched,What the examples' tests need,/etc/apt/sources.list)

proxies: ## install nginx and HAProxy for the tests of deploy/proxy, if they are missing
	@deploy/install-packages.sh "the tests of deploy/proxy" nginx=nginx-light haproxy=haproxy $(call fetched,What the tests of proxies need,/etc/apt/sources.list)

monitoring: ## install Prometheus for the tests of deploy/alerts and deploy/grafana, if it is missing
	@deploy/install-packages.sh "the tests of deploy/alerts and deploy/grafana" prometheus=prometheus $(call fetched,What the tests of monitoring need,/etc/apt/sources.list)

clocks: ## install faketime for the tests of clocks, if it is missing
	@deploy/install-packages.sh "the tests of clocks" faketime=faketime $(call fetched,What the tests of clocks need,/etc/apt/sources.list)

test: setup browser postgresql languages proxies monitoring clocks ## run all tests (they start their own nats-server, PostgreSQL, services and browser)
	@$(SCRATCH) $(RUN) pytest -n $(JOBS) --dist worksteal --ignore tests/containers $(SLOWEST) $(ARGS)
	@$(if $(ARGS)$(filter no,$(CONTAINERS)),true,$(containers))

test-containers: setup ## run the tests of images and docker-compose.yml, with a Docker engine that is installed if none runs
	@deploy/ci/with-docker.sh $(RUN) pytest tests/containers $(SLOWEST) $(ARGS)

check: setup clients/js/node_modules/.package-lock.json ## check what must hold before a commit: lint, format, types, imports, generated files
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@cd clients/js && npm run --silent types && npm run --silent size
	@$(RUN) lint-imports
	@$(RUN) python -m scripts.generate --check
	@$(RUN) python -m scripts.migrations check
	@$(RUN) python -m scripts.features
	@$(RUN) python -m scripts.audit $(if $(CI),--examples)

audit: setup ## look up known vulnerabilities, and fail also on what became known, or due, without a commit
	@$(RUN) python -m scripts.audit --examples --strict

format: setup ## format every file
	@$(RUN) ruff check --fix-only --quiet .
	@$(RUN) ruff format .

generate: setup ## write everything that is derived from the catalogue and the tables
	@$(RUN) python -m scripts.generate

faults: setup ## break every part under load for some minutes, and report what each client received
	@$(RUN) python -m tests.faults $(ARGS)

migration: setup ## write the next revision of a service's tables: SERVICE=auth TITLE="…"
	@$(RUN) python -m scripts.migrations write "$(SERVICE)" "$(TITLE)"

bench: setup ## measure one gateway on one core of this machine (about 15 minutes)
	@$(RUN) python -m bench $(ARGS)

wheels: setup ## build the installable packages into dist/
	@$(UV) build --quiet --all-packages --wheel --out-dir dist $(call fetched,The build backend,UV_DEFAULT_INDEX)
	@echo "The wheels are in $(CURDIR)/dist"

packages: clients/js/node_modules/.package-lock.json clients/react/node_modules/.package-lock.json ## build the npm packages into dist/
	@mkdir -p dist
	@for one in js react; do (cd clients/$$one && npm pack --silent --pack-destination ../../dist >/dev/null) || exit 1; done
	@echo "The packages are in $(CURDIR)/dist"

scripts/site/node_modules/.package-lock.json: scripts/site/package.json scripts/site/package-lock.json
	@deploy/install-languages.sh node $(call fetched,Node,/etc/apt/sources.list. Or put node and npm on the PATH)
	@cd scripts/site && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error $(call fetched,npm packages of scripts/site,NPM_CONFIG_REGISTRY)
	@touch $@

docs: setup scripts/site/node_modules/.package-lock.json ## build the documentation as a site into dist/docs
	@$(RUN) sphinx-build -q -W --keep-going -j auto -c scripts/site -d dist/.docs . dist/docs
	@echo "The site is in $(CURDIR)/dist/docs"

docs-serve: docs ## build the documentation, and serve it at http://127.0.0.1:8000/
	@$(RUN) python -m http.server --bind 127.0.0.1 --directory dist/docs 8000

sbom: setup ## list what each image contains, in dist/ (after docker compose build)
	@$(RUN) python -m scripts.sbom

record: setup ## record a release, against which the next version is tested: COMMIT=…
	@UV=$(UV) $(RUN) python -m scripts.record_release "$(COMMIT)"

clean: ## remove installed tools, caches, and the data of `make up`
	@rm -rf clients/*/node_modules clients/*/types clients/react/test/react18/node_modules scripts/site/node_modules dist .venv .uv .beaconfire .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
