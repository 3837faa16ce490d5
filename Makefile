# Salon: `make run` starts the chat on this machine, `make test` checks all of it.
# Both do their own set-up on a bare Debian with Python 3.11 and root or sudo.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

HOST ?= localhost
PORT ?= 8000
DEBIAN ?= trixie

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes

export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export DEBIAN

.PHONY: help
help: ## Show what there is to make
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: run
run: .venv/app ## Start the chat on HOST:PORT (localhost:8000), with everything embedded
	@exec $(BIN)/python app/manage.py demo --host "$(HOST)" --port "$(PORT)"

.PHONY: test
test: lint unit integration client browser molecule faults-short ## Run every check, cheapest first

.PHONY: lint
lint: .venv/tests ## ruff, bandit and ansible-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --extension j2:python $(PROGRAMS)
	$(BIN)/ruff format --check --extension j2:python $(PROGRAMS)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive app roles playbooks $(PROGRAMS) 2> >(grep -v "but no failed test" >&2)
	$(BIN)/ansible-lint --offline --strict
# Of a line with several strings, bandit tells of each in which an exception was not needed: that is left out.
# Templates, and Python all the same.
PROGRAMS := templates/usr/local/sbin/salon-certificate.j2 templates/usr/local/sbin/salon-release.j2 templates/usr/local/sbin/salon-backup.j2 templates/usr/local/sbin/salon-ages.j2 molecule/certificates/templates/refuser.py.j2

.PHONY: unit
unit: .venv/tests ## Tests without a server
	tests/system-packages promtool
	$(BIN)/pytest tests/unit --numprocesses 2 --dist worksteal

.PHONY: fuzz
fuzz: .venv/tests ## Feed the decoder and the HTTP API 100,000 inputs (a quarter of an hour)
	SALON_FUZZ_INPUTS=10000 $(BIN)/pytest tests/unit/test_fuzz.py tests/unit/test_fuzz_api.py

.PHONY: integration
integration: .venv/tests ## Tests over the wire, embedded and with PostgreSQL and Redis
	tests/system-packages postgresql redis nginx restic
	$(BIN)/pytest tests/integration --numprocesses 3 --dist loadfile

.PHONY: client
client: .venv/tests ## salon-client under Node, against a server that is killed, restarted, slowed and cut
	tests/system-packages node
	for each in tests/salon-client/*.test.mjs; do PYTHON=$(BIN)/python node --test "$$each"; done
# One file after the other; Debian 12's Node has no option for that.

.PHONY: accessibility
accessibility: .venv/tests ## axe-core on every screen, and Lighthouse (needs the npm registry; eight minutes)
	tests/system-packages chromium node npm
	npm ci --prefix tests/accessibility --ignore-scripts --no-audit --no-fund
	$(BIN)/pytest tests/accessibility

.PHONY: example
example: .venv/tests ## Build examples/nextjs, and talk in it (needs the npm registry)
	tests/system-packages chromium node npm
	$(BIN)/pytest tests/example

.PHONY: screenshots
screenshots: .venv/tests ## Pictures of every screen, under build/screenshots
	tests/system-packages chromium
	$(BIN)/pytest tests/browser/screenshots.py

.PHONY: browser
browser: .venv/tests ## The page, with two and three people in browsers
	tests/system-packages chromium
	$(BIN)/pytest tests/browser

.PHONY: molecule
molecule: .venv/tests ## The whole host, from bare to reboot (DEBIAN=bookworm for Debian 12)
	tests/system-packages chromium certutil
	tests/host/docker-engine run tests/host/prepared tests/host/summed-up molecule test

.PHONY: certificates
certificates: .venv/tests ## Every way to a certificate, with an ACME authority of its own (ten minutes)
	tests/host/docker-engine run tests/host/prepared tests/host/summed-up molecule test --scenario-name certificates

.PHONY: lifecycle
lifecycle: .venv/tests ## Ship, roll back and kill it in between, while people write (fifteen minutes)
	tests/host/docker-engine run tests/host/prepared tests/host/summed-up molecule test --scenario-name lifecycle

.PHONY: faults
faults: .venv/tests ## Let all that can die do so while people write; docs/faults.md (half an hour; FAULTS="kill-redis" TIMES=1)
	$(FAULTS_HOST) $(BIN)/python tests/faults $(if $(FAULTS),--only "$(FAULTS)") $(if $(TIMES),--times $(TIMES))

.PHONY: faults-short
faults-short: .venv/tests ## Six of these faults, once, and shorter (four minutes)
	$(FAULTS_HOST) $(BIN)/python tests/faults --short
FAULTS_HOST := tests/host/docker-engine run tests/host/prepared tests/faults/host run

.PHONY: security
security: security-edge security-host ## Everything that scans and attacks a finished host (twenty minutes)

.PHONY: security-edge
security-edge: .venv/tests .venv-scanners/installed ## Scan and attack it from another host; docs/security-scans.md (ten minutes)
	tests/host/docker-engine run tests/host/prepared tests/scans/host run $(BIN)/python tests/scans

.PHONY: audit
audit: .venv-scanners/installed ## Look up all pinned packages among the known vulnerabilities (needs the Internet)
	.venv-scanners/bin/python tests/scans/audit.py app/requirements.txt playbooks/requirements.txt tests/requirements.txt tests/scans/requirements.txt

.PHONY: security-host
security-host: .venv/tests ## Have nmap and lynis look at a finished host; docs/security-host.md (seven minutes)
	tests/security/lynis

.PHONY: host
host: .venv/tests ## Keep a finished local test host, and print how to reach it
	tests/host/local-host up

.PHONY: host-down
host-down: .venv/tests ## Remove that host
	tests/host/local-host down

.PHONY: new
new: .venv/operator ## Write an inventory, make its secrets, and see whether its host is fit for Salon (NEW="-e new_name=staging")
	@$(BIN)/ansible-playbook playbooks/new.yml $(NEW)

.PHONY: newcomer
newcomer: ## Go from a clone to a chatting host, over ssh and with a password for sudo, as README.md shows it (eight minutes)
	tests/system-packages ssh
	tests/host/docker-engine run tests/host/prepared tests/host/newcomer

.PHONY: restore
restore: .venv/tests ## Back up a Debian 12, restore on a Debian 13, and see that nothing is missing (ten minutes)
	tests/host/docker-engine run env DEBIAN=bookworm tests/host/prepared env DEBIAN=trixie tests/host/prepared \
		tests/host/summed-up molecule test --scenario-name restore

.PHONY: monitoring
monitoring: .venv/tests ## A host that is watched: stop each of its services, and see that somebody is told (ten minutes)
	tests/host/docker-engine run tests/host/prepared tests/host/summed-up molecule test --scenario-name monitoring

.PHONY: bench
bench: .venv/tests ## Measure Salon beside others, in three minutes (BENCH="--only rooms-of-100 --contenders a,d")
	tests/system-packages postgresql redis gcc
	$(BIN)/python tests/load $(BENCH)

.PHONY: bench-full
bench-full: .venv/tests ## The same at length, with nginx and TLS (20 minutes)
	tests/system-packages postgresql redis gcc nginx
	$(BIN)/python tests/load --full $(BENCH)

.PHONY: bench-soak
bench-soak: .venv/tests ## A million deliveries and 50,000 visits: does memory grow?
	tests/system-packages postgresql redis gcc
	$(BIN)/python tests/load --only soak --contenders a $(BENCH)

.PHONY: docs
docs: .venv/tests ## Write docs/variables.md from what the roles say, and docs/grafana.json from the admin's pictures
	$(BIN)/python docs/variables.py
	$(BIN)/python docs/grafana.py

.PHONY: format
format: .venv/tests ## Let ruff write what it would complain about
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: .venv/tests ## Resolve pyproject.toml anew into the hash-pinned requirements
	$(BIN)/uv pip compile $(LOCK) pyproject.toml -o app/requirements.txt
	$(BIN)/uv pip compile $(LOCK) -c app/requirements.txt --group pyproject.toml:operator -o playbooks/requirements.txt
	$(BIN)/uv pip compile $(LOCK) -c app/requirements.txt -c playbooks/requirements.txt --group pyproject.toml:test -o tests/requirements.txt
	$(BIN)/uv pip compile $(LOCK) --group pyproject.toml:scanners -o tests/scans/requirements.txt
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"

.venv/bin/python:
	@tests/system-packages venv
	@python3 -m venv .venv

.venv/app: app/requirements.txt | .venv/bin/python
	@echo "Installing $<"
	@$(PIP) -r $<
	@touch $@

.PHONY: operator
operator: .venv/operator ## Install Ansible into .venv, pinned

.venv/operator: playbooks/requirements.txt | .venv/bin/python
	@echo "Installing $<"
	@$(PIP) -r $<
	@touch $@

.venv/tests: tests/requirements.txt .venv/app .venv/operator
	@echo "Installing $<"
	@$(PIP) -r $<
	@touch $@

.venv-scanners/installed: tests/scans/requirements.txt | .venv/bin/python
	@echo "Installing $<"
	@python3 -m venv --clear .venv-scanners
	@.venv-scanners/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r $<
	@touch $@

.PHONY: clean
clean: ## Remove the environment, the embedded data and what was built
	rm -rf .venv .venv-scanners var build/salon-* build/wheels build/load-* build/bench.*
