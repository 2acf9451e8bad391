#!/bin/sh
# Installs edge-agent's units, udev rule and, if there is none, its configuration; and from a folder that `make wheelhouse`
# made, without any network, the program. As often as you like: what is there is brought up to date, and a configuration is
# never touched. Programs of before stay in /opt/edge-agent, and /opt/edge-agent/.venv leads to the one that is in use.
#
#   install.sh [ROOT]    ROOT: a folder to install units, rule and configuration below, for packages and images; then nothing
#                        is told to systemd. PYTHON: the interpreter, python3 if it is not set
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bundle=$(cd "$here/../.." && pwd)
home=/opt/edge-agent
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

program() { # WHEEL: into a folder of its own, named by version and content; the link changes once it is whole
    lock="$bundle/deploy/requirements.lock"
    build=$(basename "$1" | cut -d - -f 2)-$(cat "$1" "$lock" | sha256sum | cut -c 1-8)
    python="$home/$build/bin/python"
    [ -L "$home/.venv" ] || [ ! -e "$home/.venv" ] || fail "$home/.venv was made by hand: rename it, then run this again"
    if [ ! -x "$home/$build/bin/edge-agent" ]; then
        mkdir -p "$home"
        "${PYTHON:-python3}" -m venv --clear "$home/$build" || fail "no virtual environment: apt install python3-venv"
        "$python" -m pip install --quiet --no-index --find-links "$bundle" --require-hashes -r "$lock" ||
            fail "$bundle is not whole, or was made for another Python or processor: make wheelhouse on a machine like this one"
        "$python" -m pip install --quiet --no-index --no-deps "$1"
    fi
    ln -sfn "$build" "$home/.venv.new"
    mv -T "$home/.venv.new" "$home/.venv"
    echo "the program is $home/$build"
}

if [ -z "$root" ]; then
    for wheel in "$bundle"/edge_agent-*.whl; do
        [ ! -e "$wheel" ] || program "$wheel"
    done
fi
put edge-agent.service /etc/systemd/system 644
put edge-agent@.service /etc/systemd/system 644
put edge-agent-page.service /etc/systemd/system 644
put edge-agent-page@.service /etc/systemd/system 644
put 70-edge-agent-cameras.rules /etc/udev/rules.d 644
mkdir -p "$root/etc/edge-agent"
if [ ! -e "$root/etc/edge-agent/config.yaml" ]; then
    cp "$bundle/config.yaml" "$root/etc/edge-agent/.config.yaml.new"
    chmod 644 "$root/etc/edge-agent/.config.yaml.new"
    mv "$root/etc/edge-agent/.config.yaml.new" "$root/etc/edge-agent/config.yaml"
fi

if [ -z "$root" ]; then
    systemctl daemon-reload
    if command -v udevadm >/dev/null; then
        udevadm control --reload && udevadm trigger --subsystem-match=video4linux
    fi
fi

program=$home/.venv/bin/edge-agent
echo "installed. What is left to do:"
if [ ! -x "$root$program" ]; then
    echo "  python3 -m venv $home/.venv && $home/.venv/bin/pip install $bundle"
fi
echo "  edit /etc/edge-agent/config.yaml, and see what $program check --config /etc/edge-agent/config.yaml says"
echo "  systemctl enable --now edge-agent, or, if an older one runs, systemctl restart edge-agent"
echo "  for the page in a browser, see docs/page.md, then systemctl enable --now edge-agent-page"
