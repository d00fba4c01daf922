# What one types here. A fresh machine needs Python 3.10 or later and make; everything else goes into .venv.
#
#   make demo             trains examples/char_gpt.py under longpole: answer here, report in demo-output/
#   make test             the tests, less those that take long, need a browser, or need other frameworks
#   make lint types       ruff; basedpyright
#   make test-slow test-browser test-frameworks
#   make web              builds the page's script from web/ (needs node; its result is committed)
#
# PYTHON=python3.12 chooses the interpreter, PYTEST_ARGS="-k words" the tests. Where pip finds both, it takes the CPU
# build of torch; PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS can name a place that has one.

PYTHON ?= python3
PYTEST_ARGS ?=
PARALLEL := -n 2
VENV := .venv
FRAMEWORKS := .venv-frameworks
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PINS := pyproject.toml constraints.txt
# pytest's 5 says that no test has the marker: no failure for the sets that not every change touches.
OR_NONE := || test $$? -eq 5

.PHONY: demo test test-slow test-browser test-frameworks lint types web benchmark clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# $(call make_venv,FOLDER,GROUP): torch first and alone, so that nothing that follows can choose another one.
define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "longpole needs Python 3.10 or later; say make PYTHON=...")'
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@echo "setting up $(1) ($(2))"
	@$(1)/bin/python $(PIP_INSTALL) "pip>=25.1"
	@$(1)/bin/python $(PIP_INSTALL) torch==2.13.0
	@$(1)/bin/python $(PIP_INSTALL) --editable . --group $(2)
	@touch $@
endef

$(VENV)/.demo: $(PINS)
	$(call make_venv,$(VENV),demo)

$(VENV)/.dev: $(PINS)
	$(call make_venv,$(VENV),dev)
	@touch $(VENV)/.demo

$(VENV)/.browser: $(VENV)/.dev
	@$(VENV)/bin/python $(PIP_INSTALL) --group browser
	@touch $@

$(FRAMEWORKS)/.ready: $(PINS)
	$(call make_venv,$(FRAMEWORKS),frameworks)

demo: $(VENV)/.demo
	@mkdir -p demo-output
	$(VENV)/bin/longpole run --html demo-output/report.html --json demo-output/report.json examples/char_gpt.py
	@ls demo-output/report.html demo-output/report.json

test: $(VENV)/.dev
	$(VENV)/bin/python -m pytest $(PARALLEL) -m "not slow and not browser and not frameworks" $(PYTEST_ARGS)

test-slow: $(VENV)/.dev
	$(VENV)/bin/python -m pytest $(PARALLEL) -m "slow and not alone and not browser and not frameworks" $(PYTEST_ARGS) $(OR_NONE)
	$(VENV)/bin/python -m pytest -m "slow and alone" $(PYTEST_ARGS) $(OR_NONE)

test-browser: $(VENV)/.browser
	@command -v chromium > /dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium > /dev/null; } || \
		{ echo "test-browser needs chromium: install it with your package manager" >&2; exit 2; }
	$(VENV)/bin/python -m pytest -m browser $(PYTEST_ARGS) $(OR_NONE)

test-frameworks: $(FRAMEWORKS)/.ready
	HF_HUB_OFFLINE=1 $(FRAMEWORKS)/bin/python -m pytest -m frameworks $(PYTEST_ARGS) $(OR_NONE)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/basedpyright

benchmark: $(VENV)/.dev
	$(VENV)/bin/python benchmarks/overhead.py

web:
	cd web && npm ci --no-audit --no-fund && npm run build

clean:
	rm -rf demo-output longpole-runs .pytest_cache .ruff_cache .hypothesis
