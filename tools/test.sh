#!/bin/sh
# All checks and tests. Usage: test.sh [lint|fast]
set -eu
bin=.venv/bin
part=${1:-all}

step() {
    echo "== $*"
}

step "ruff"
$bin/ruff check .
$bin/ruff format --check .
step "mypy"
$bin/mypy
step "import contracts"
$bin/lint-imports
[ "$part" = lint ] && exit 0

step "unit, sim, contract and golden tests"
$bin/pytest -n 2 tests/unit tests/sim tests/contract tests/golden tests/test_tidy.py
[ "$part" = fast ] && exit 0

step "integration tests"
$bin/pytest -n 2 tests/integration
step "end-to-end tests"
$bin/pytest -p no:randomly tests/e2e
