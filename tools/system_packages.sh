#!/bin/sh
# Installs the Debian packages that a task needs, as root; else says which are missing.
# Usage: system_packages.sh venv|test|bench
set -eu

case $1 in
    venv) wanted="python3-venv" ;;
    test)
        wanted="haproxy gcc libc6-dev binutils docker.io iproute2 iptables debootstrap docker-registry"
        ;;
    bench) wanted="haproxy wrk" ;;
    *) echo "usage: system_packages.sh venv|test|bench" >&2; exit 2 ;;
esac

# Where daemons are; a user's PATH often lacks it.
PATH=$PATH:/usr/sbin:/sbin

missing=""
for package in $wanted; do
    case $package in
        haproxy | wrk | gcc | iptables) command -v "$package" >/dev/null 2>&1 ;;
        docker.io) command -v dockerd >/dev/null 2>&1 ;;
        iproute2) command -v ip >/dev/null 2>&1 ;;
        *) dpkg -s "$package" >/dev/null 2>&1 ;;
    esac || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
    echo "these packages are missing:$missing" >&2
    echo "install them: sudo apt install$missing" >&2
    exit 1
fi
