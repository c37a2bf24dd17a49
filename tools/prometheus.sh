#!/bin/sh
# Has a Prometheus for the tests: the one on PATH, else Debian's, unpacked below .cache once. That is
# not installed: its package starts a service, and brings exporters for the machine's hardware.
set -eu

folder=.cache/prometheus
if command -v prometheus >/dev/null 2>&1 || [ -x "$folder/usr/bin/prometheus" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "there is no prometheus on PATH; put one there" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
fetch() { (cd "$work" && apt-get download -qq prometheus) >/dev/null 2>&1; }
if ! fetch; then
    # The lists of packages may be missing or old.
    [ "$(id -u)" != 0 ] || apt-get update -qq
    fetch || {
        echo "Debian's package prometheus cannot be fetched; put a prometheus on PATH" >&2
        exit 1
    }
fi
dpkg -x "$work"/prometheus_*.deb "$work/root"
mkdir -p "$folder"
rm -rf "$folder/usr"
mv "$work/root/usr" "$folder/usr"
echo "unpacked a prometheus into $folder"
