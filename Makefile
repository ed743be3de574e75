# Two commands do everything on a machine with Python >= 3.11 and make:
#   make run    the power table of scenarios/crm_rwanda.yaml
#   make test   the tests
#   make test-reliability   the tests of docs/reliability.md in their full numbers
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test test-reliability bench lint reference clean
run: $(READY)
	$(BIN)/nexttrial run scenarios/crm_rwanda.yaml

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

# Every repetition that docs/reliability.md counts: half an hour.
test-reliability: $(READY)
	$(BIN)/python -m pytest -m reliability

bench: $(READY)
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/mixed_models.py
	$(BIN)/python benchmarks/world.py
	$(BIN)/python benchmarks/gate.py

# The committed reference runs, made anew after a change that moves their numbers.
reference: $(READY)
	PYTHONPATH=tests $(BIN)/python tests/validation/reference_run.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The environment is made once, from pinned versions, and again when they change.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

clean:
	rm -rf .venv
