#!/bin/sh
# Makes the virtual environment with everything from uv.lock. Usage: setup.sh FOLDER
set -eu
venv=$1

python=""
for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or later is needed and was not found; install it: apt install python3" >&2
    exit 1
fi

"$python" -c 'import ensurepip, venv' 2>/dev/null || sh "$(dirname "$0")/system_packages.sh" venv

if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv"
fi
if [ ! -x "$venv/bin/uv" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
fi
echo "installing into $venv"
UV_PROJECT_ENVIRONMENT=$venv "$venv/bin/uv" sync --quiet --frozen --inexact --compile-bytecode --all-extras --group dev \
    --python "$venv/bin/python"
# Compiled once here, so that no command compiles its modules anew where bytecode is not written.
"$venv/bin/python" -m compileall -q common agent scheduler runtime cli
