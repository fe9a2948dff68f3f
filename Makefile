# Every target works on a bare checkout: Python 3.11 or newer and make are all it takes.
# The environment is made or completed by scripts/environment.sh, which takes no time when there is nothing to do.

DEMO_ARGS ?=
TEST_ARGS ?=
TEST_WORKERS ?= 3 # tests wait more than they compute: three of them share two cores
BENCH_ARGS ?=
MUTANTS_ARGS ?=
CHAOS_ARGS ?=

BIN := .venv/bin
TYPED := $(wildcard contracts streams otel tests benchmarks examples)
FAST_TESTS := tests/unit $(wildcard tests/architecture)

.DEFAULT_GOAL := help
.PHONY: help env env-runtime demo check test bench mutants chaos format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

env: ## make .venv with all that the development needs
	@scripts/environment.sh dev

env-runtime:
	@scripts/environment.sh runtime

demo: env-runtime ## run the whole app with simulated traffic (DEMO_ARGS="--seconds 20 --headless --json")
	@$(BIN)/payday demo $(DEMO_ARGS)

check: env ## format, lint, types, import rules, unit tests: under a minute
	@echo "format" && $(BIN)/ruff format --check --quiet . || { echo "run: make format" >&2; exit 1; }
	@echo "lint" && $(BIN)/ruff check --quiet .
	@echo "types" && $(BIN)/mypy --no-error-summary $(TYPED)
	@echo "imports" && $(BIN)/lint-imports --no-logo
	@echo "unit tests" && $(BIN)/pytest --quiet $(FAST_TESTS)

test: env ## run every test (TEST_ARGS="-k ledger -x")
	@$(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile $(TEST_ARGS)

bench: env ## run the benchmarks (BENCH_ARGS)
	@$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

mutants: env ## break the code on purpose and see the tests go red (MUTANTS_ARGS)
	@$(BIN)/python -m tests.mutants.run $(MUTANTS_ARGS)

chaos: env ## kill and freeze payout workers, then compare every book (CHAOS_ARGS="--kills 200 --accounts 20000 --seed 5")
	@$(BIN)/python -m tests.chaos.payouts_campaign $(CHAOS_ARGS)

format: env ## format and mend what can be mended by itself
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

clean: ## remove .venv, caches and build output (.payday, the data, stays)
	@rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
