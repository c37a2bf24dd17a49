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

# A folder of this run alone: what a killed run left mounted in its own is no concern of the next.
# Its name is short, for a socket's path has 107 characters at most.
folder=$(mktemp -d /tmp/serai.XXXXXX)
trap 'rm -rf --one-file-system "$folder" || true' EXIT

tests() {
    ring=$1
    shift
    $bin/pytest --basetemp="$folder/$ring" "$@"
}

rings="tests/unit tests/sim tests/contract tests/golden tests/test_tidy.py"
step "unit, sim, contract and golden tests"
if [ "$part" = fast ]; then
    # shellcheck disable=SC2086  # a list of folders
    tests unit -n 2 $rings -m "not engines"
    exit 0
fi
# shellcheck disable=SC2086
tests unit -n 2 $rings

step "integration tests"
tests int -n 2 tests/integration
step "end-to-end tests"
tests e2e -p no:randomly tests/e2e
