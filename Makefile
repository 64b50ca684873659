# The two commands of the README: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# cpu or cuda: which lock file to install
DEVICE ?= cpu
STAMP := $(VENV)/.installed-$(DEVICE)
QUICK := tests/architecture tests/unit tests/contract

.PHONY: setup demo serve quick test drill check format bench clean

setup: $(STAMP)

$(STAMP): requirements/$(DEVICE).lock pyproject.toml deploy/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) DEVICE=$(DEVICE) sh deploy/setup.sh
	@touch $(STAMP)

# One whole turn of the circle on the real engine; KEEP=1 leaves the server up.
demo: setup
	$(BIN)/attune demo $(if $(KEEP),--keep)

serve: setup
	$(BIN)/attune serve

# For daily work, a minute: import contracts, rules, stores on both databases; no torch, no engine,
# and nothing that is marked `slow`.
quick: setup
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow" $(QUICK)

# Everything but the drills: format, lint, types, import contracts, the quick tests, then those that
# train, export and serve, which need the cores for themselves.
test: check
	$(BIN)/pytest --durations=8 -n 2 --dist loadfile $(QUICK)
	$(BIN)/pytest --durations=12 -m "not drill" tests/integration tests/security

# kill -9 of everything, minutes of everything at once, attacks of minutes, more tastes to learn, a
# real model from the package index.
drill: setup
	$(BIN)/pytest --durations=0 --durations-min=5 -m drill tests/drill tests/integration tests/security

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
