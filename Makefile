# make demo   set-up, then the whole loop on the embedded default
# make test   set-up, then the tests that a change needs (a few minutes)
# make check  what CI runs: format, lint, types, all tests: browser, PostgreSQL, learning and mutants among them
.PHONY: demo test test-all check lint setup lock reference clean

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
PYTEST = $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
STAMP := $(VENV)/.installed

demo: setup
	$(VENV)/bin/python -m workbench demo

test: setup
	$(PYTEST) -m "not slow"

test-all: setup
	$(PYTEST)

check: lint test-all

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

setup: $(STAMP)

# torch is pinned in the lock: on a machine without a GPU, pip may then take a CPU build of exactly that version.
$(STAMP): requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -r requirements/lock.txt
	$(VENV)/bin/pip install -q --no-deps --no-build-isolation -e .
	touch $(STAMP)

# Write configs/reference/ from the configuration classes.
reference: setup
	for pair in sft=sft.config:SftConfig classify=sft.classify.config:ClassifyConfig reward=reward.config:RewardConfig ppo=ppo.config:PpoConfig \
			contrastive=ppo.config:ContrastiveConfig pairs=ppo.ladder.config:PairsConfig annotate=annotate.config:AnnotateConfig \
			compare=workbench.compare.config:CompareConfig loop=workbench.loop.config:LoopConfig suite=workbench.suite.config:SuiteConfig; do \
		$(VENV)/bin/python -m workbench.run.reference $${pair#*=} > configs/reference/$${pair%%=*}.yaml || exit 1; \
	done

# Renew the lock from pyproject.toml, in an environment of its own.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install -q "torch==2.13.0" hatchling editables && .venv-lock/bin/pip install -q -e ".[dev]"
	.venv-lock/bin/pip freeze --exclude-editable | sed 's/^torch==\([0-9.]*\)+.*/torch==\1/' > requirements/lock.txt
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) runs
