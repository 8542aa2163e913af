# Two commands do everything: `make demo` plays the whole business, `make test` proves it.
PYTHON ?= python3
WEB_PORT ?= 8000
SIMULATOR_PORT ?= 8300
BIN := .venv/bin
# What a developer has exported, or keeps in .env, reaches neither the demo nor the checks.
CLEAN_ENV := env -i PATH="$(PATH)" HOME="$(HOME)" TERM="$(TERM)"
DEMO_ENV := $(CLEAN_ENV) ENV_FILE= DEBUG=true DATA_DIR=.demo

.PHONY: demo run test prove coverage lint check-deploy format messages bench load screenshots pins docs rename test-matrix help clean

demo: .venv/runtime  ## play a purchase until AWS's invoice; EXIT=1 stops after the table
	@$(DEMO_ENV) $(BIN)/python manage.py demo --web-port=$(WEB_PORT) --simulator-port=$(SIMULATOR_PORT) $(if $(EXIT),--exit)

run: .venv/runtime .env  ## serve with auto-reload on your own data; ports and all else are in .env
	$(BIN)/python manage.py migrate --verbosity=0
	$(BIN)/python manage.py load_catalog
	$(BIN)/honcho start

test: .venv/dev  ## the tests on SQLite, and on PostgreSQL and Redis where they answer
	$(BIN)/python -m tests.run

prove: .venv/dev  ## the slow proofs: the demo as a whole, the example product deleted
	$(BIN)/python -m tests.run -m slow

coverage: .venv/dev  ## which lines of accounts/ and billing/ no test reaches; fails below 95 %
	$(BIN)/python -m tests.run --coverage

lint: .venv/dev  ## style, types, migrations
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/djade --check $$(git ls-files 'templates/**/*.html' 'marketplace_saas/**/*.html')
	$(BIN)/mypy
	ENV_FILE= DEBUG=true $(BIN)/python manage.py makemigrations --check --dry-run

check-deploy: .venv/dev  ## Django's own production checks, on settings as in production
	@$(CLEAN_ENV) ENV_FILE=.ci/production.env $(BIN)/python manage.py check --deploy --fail-level WARNING

format: .venv/dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# What is said to people. The tests and the tools for sellers' own machines speak English.
MAKEMESSAGES := makemessages --locale=ko --no-wrap --add-location=file --no-obsolete \
  --ignore=.matrix --ignore=tests --ignore=simulator --ignore=demo --ignore=commands --ignore=test_*.py --ignore=docs --ignore=deploy

messages: .venv/dev  ## gather what is said to people for translation, and compile it; needs gettext
	$(CLEAN_ENV) ENV_FILE= DEBUG=true DATA_DIR=.demo $(BIN)/python manage.py $(MAKEMESSAGES)
	$(CLEAN_ENV) ENV_FILE= DEBUG=true DATA_DIR=.demo $(BIN)/python manage.py compilemessages --ignore=.venv --ignore=.matrix

bench: .venv/dev  ## each hot path beside its barest form, on PostgreSQL; QUICK=1 takes under two minutes, ONLY=gate measures one
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

load: .venv/dev  ## pages under load, while everything that can go away does; needs wrk, redis-server and postgresql
	@$(CLEAN_ENV) $(BIN)/python -m tests.load

screenshots: .venv/dev  ## every buyer page at two widths, light and dark, in screenshots/; ONLY=usage takes some
	ONLY=$(ONLY) $(BIN)/python -m pytest -q -n 0 tests/screenshots.py

pins: .venv/dev  ## compile requirements*.in for CPython 3.11 to 3.13
	for name in requirements requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 $$name.in --output-file $$name.txt; done

docs: .venv/dev  ## write docs/configuration.md anew from the settings and .env.example
	ENV_FILE= DEBUG=true DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m tests.configuration_page

# A title reaches the shell as a variable, whatever is in it. A new name puts imports in another order.
rename: .venv/dev  ## the first thing in a fork: NAME=acme TITLE="Acme" for the package, the site and its products
	@$(BIN)/python -I marketplace_saas/rename.py --name="$$NAME" --title="$$TITLE" $(if $(FORCE),--force)
	@$(BIN)/ruff check --quiet --select I --fix . && $(BIN)/ruff format --quiet .

test-matrix: .venv/dev  ## the tests on each CPython that is here, and on Django 6.1; ONLY=3.13 takes one, TESTS=… some
	$(BIN)/python -m tests.matrix $(if $(ONLY),--only "$(ONLY)") $(if $(TESTS),-- $(TESTS))

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 16

clean:  ## remove what these commands made, but not .run/ and .env
	rm -rf .venv .matrix .demo .mypy_cache .ruff_cache .pytest_cache .coverage* htmlcov staticfiles

.env:
	cp .env.example .env

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is %d.%d: this needs CPython 3.11 or newer. Say which, as in: make demo PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv

.venv/runtime: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@

.venv/dev: requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@ .venv/runtime
