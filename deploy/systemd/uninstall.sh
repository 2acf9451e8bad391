#!/bin/sh
# Takes edge-agent's services off this machine. What it found and its configuration stay, unless told otherwise.
#
#   uninstall.sh [--purge] [ROOT]    --purge: journal, pictures and configuration go too; ROOT: as in install.sh
set -eu

purge=
if [ "${1:-}" = --purge ]; then
    purge=yes
    shift
fi
root=${1:-}
root=${root%/}

fail() {
    echo "uninstall.sh: $1" >&2
    exit 1
}

[ $# -le 1 ] || fail "wants at most --purge and the folder that was installed below"
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "only root may remove a service: sudo $0"

if [ -z "$root" ]; then
    systemctl disable --now edge-agent.service edge-agent-page.service 2>/dev/null || true
    for unit in $(systemctl list-units --all --plain --no-legend 'edge-agent@*.service' 'edge-agent-page@*.service' |
        cut -d ' ' -f 1); do
        systemctl disable --now "$unit" 2>/dev/null || true
    done
fi
rm -f "$root/etc/systemd/system/edge-agent.service" "$root/etc/systemd/system/edge-agent@.service" \
    "$root/etc/systemd/system/edge-agent-page.service" "$root/etc/systemd/system/edge-agent-page@.service" \
    "$root/etc/systemd/system/multi-user.target.wants/edge-agent.service" \
    "$root/etc/systemd/system/multi-user.target.wants/edge-agent-page.service" \
    "$root/etc/systemd/system/multi-user.target.wants"/edge-agent@*.service \
    "$root/etc/systemd/system/multi-user.target.wants"/edge-agent-page@*.service \
    "$root/etc/udev/rules.d/70-edge-agent-cameras.rules"
[ -n "$root" ] || systemctl daemon-reload

if [ -n "$purge" ]; then
    rm -rf "$root/etc/edge-agent"
    # systemd keeps what a DynamicUser= writes in private/, and links to it.
    for folder in "$root/var/lib" "$root/var/cache"; do
        for data in "$folder"/edge-agent "$folder"/edge-agent-* "$folder"/private/edge-agent "$folder"/private/edge-agent-*; do
            rm -rf "$data"
        done
    done
    echo "removed, with all that was recorded. The program is still there: rm -r /opt/edge-agent"
else
    echo "removed. /etc/edge-agent, /var/lib/edge-agent* and /opt/edge-agent are still there; --purge deletes the first two."
fi
