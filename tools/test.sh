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

rings="tests/unit tests/sim tests/contract tests/golden tests/test_tidy.py"
step "unit, sim, contract and golden tests"
if [ "$part" = fast ]; then
    # shellcheck disable=SC2086  # a list of folders
    $bin/pytest -n 2 $rings -m "not engines"
    exit 0
fi
# shellcheck disable=SC2086
$bin/pytest -n 2 $rings

step "integration tests"
$bin/pytest -n 2 tests/integration
step "end-to-end tests"
$bin/pytest -p no:randomly tests/e2e
