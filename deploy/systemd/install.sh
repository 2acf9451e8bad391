#!/bin/sh
# Installs edge-agent's units, udev rule and, if there is none, its configuration. As often as you like: what is there is
# brought up to date, and a configuration is never touched. The program itself comes from pip, see the last lines.
#
#   install.sh [ROOT]    ROOT: a folder to install below, for packages and images; then nothing is told to systemd
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=${1:-}
root=${root%/}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

[ $# -le 1 ] || fail "one argument at most: the folder to install below"
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "only root may install a service: sudo $0"

put() { # FILE FOLDER MODE: whole or not at all
    mkdir -p "$root$2"
    cp "$here/$1" "$root$2/.$1.new"
    chmod "$3" "$root$2/.$1.new"
    mv "$root$2/.$1.new" "$root$2/$1"
}

put edge-agent.service /etc/systemd/system 644
put edge-agent@.service /etc/systemd/system 644
put 70-edge-agent-cameras.rules /etc/udev/rules.d 644
mkdir -p "$root/etc/edge-agent"
if [ ! -e "$root/etc/edge-agent/config.yaml" ]; then
    cp "$here/../../config.yaml" "$root/etc/edge-agent/.config.yaml.new"
    chmod 644 "$root/etc/edge-agent/.config.yaml.new"
    mv "$root/etc/edge-agent/.config.yaml.new" "$root/etc/edge-agent/config.yaml"
fi

if [ -z "$root" ]; then
    systemctl daemon-reload
    if command -v udevadm >/dev/null; then
        udevadm control --reload && udevadm trigger --subsystem-match=video4linux
    fi
fi

program=/opt/edge-agent/.venv/bin/edge-agent
echo "installed. What is left to do:"
if [ ! -x "$root$program" ]; then
    echo "  python3 -m venv /opt/edge-agent/.venv && /opt/edge-agent/.venv/bin/pip install $(cd "$here/../.." && pwd)"
fi
echo "  edit /etc/edge-agent/config.yaml, and see what $program check --config /etc/edge-agent/config.yaml says"
echo "  systemctl enable --now edge-agent"
