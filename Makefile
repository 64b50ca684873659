# The two commands of the README: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# cpu or cuda: which lock file to install
DEVICE ?= cpu
STAMP := $(VENV)/.installed-$(DEVICE)

.PHONY: setup demo serve test drill check format bench clean

setup: $(STAMP)

$(STAMP): requirements/$(DEVICE).lock pyproject.toml deploy/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) DEVICE=$(DEVICE) sh deploy/setup.sh
	@touch $(STAMP)

# One whole turn of the circle on the real engine; KEEP=1 leaves the server up.
demo: setup
	$(BIN)/attune demo $(if $(KEEP),--keep)

serve: setup
	$(BIN)/attune serve

# Everything CI runs: format, lint, types, import contracts, then every test. The tests without a
# server share the cores; those with one need them.
test: check
	$(BIN)/pytest --durations=8 -n 2 --dist loadfile tests/architecture tests/unit tests/contract
	$(BIN)/pytest --durations=12 -m "not drill" tests/integration tests/security

# Attacks of minutes.
drill: setup
	$(BIN)/pytest --durations=0 --durations-min=5 -m drill tests/security

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/attune bench all

clean:
	rm -rf .attune-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
