# Needs Python 3.11 or later with venv, and make; everything else is installed into .venv, in the versions
# of constraints.txt. Another interpreter: make PYTHON=python3.13 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns at every editable installation that a folder `purposematch` here would hide the package.
INSTALL = PYTHONWARNINGS='ignore:Editable installation' \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server]'

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-slow lint bench tune soak fuzz proto clean

help:
	@echo 'make demo    match an advertiser list against a platform, both on this machine'
	@echo 'make test    run all tests but the slow ones'
	@echo 'make test-slow  run the slow ones: kernels of other processors, 100,000 random inputs'
	@echo 'make lint    formatting, style, types, layers, generated code'
	@echo 'make bench   measure identifiers per second, step by step'
	@echo 'make tune    find the batch size, window and threads that are fastest here'
	@echo 'make soak    50 sessions at a time for three minutes: right, memory flat, how fast'
	@echo 'make fuzz    spoiled input for every decoder, file reader and call, each for SECONDS=30 seconds'
	@echo 'make proto   generate the Python bindings of proto/ again'
	@echo 'make clean   remove everything that make has made'

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/demo.py

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/lint.stamp
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check

bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/report.py

tune: $(VENV)/tune.stamp
	$(BIN)/python -m benchmarks.tune

soak: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.soak

# How long each target is tried, in seconds; what was found is tried first the next time (.hypothesis).
SECONDS ?= 30
fuzz: $(VENV)/test.stamp
	FUZZ_SECONDS=$(SECONDS) $(BIN)/python -m pytest tests/fuzz

proto: $(VENV)/test.stamp
	$(BIN)/python proto/generate.py

clean:
	rm -rf $(VENV) benchmarks/peers/.venv demo-data tuning build dist *.egg-info .hypothesis .benchmarks
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is upgraded first: --group needs 25.1.
$(VENV)/pip.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	@echo 'making $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(VENV)/pip.stamp
	@echo 'installing purposematch'
	@$(INSTALL)
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(VENV)/pip.stamp
	@echo 'installing purposematch and what its tests need'
	@$(INSTALL) --group test
	@touch $@ $(VENV)/demo.stamp

$(VENV)/lint.stamp: pyproject.toml constraints.txt | $(VENV)/pip.stamp
	@echo 'installing purposematch and what lint needs'
	@$(INSTALL) --group lint --group gen
	@touch $@ $(VENV)/demo.stamp

$(VENV)/tune.stamp: pyproject.toml constraints.txt | $(VENV)/pip.stamp
	@echo 'installing purposematch and what the tuner needs'
	@$(INSTALL) --group tune
	@touch $@ $(VENV)/demo.stamp
