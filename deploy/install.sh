#!/bin/sh
# Installs the service from what `make dist` made; for hosts without Debian packages. Run it again to upgrade or to repair.
#
# usage: install.sh [--user NAME] [--group NAME] DIST
#   DIST    the folder with the wheel and requirements.txt. Nothing is installed whose hash is not in requirements.txt; with a
#           folder DIST/wheels (pip download --require-hashes -r requirements.txt -d wheels) no network is needed.
#   --user  the user that FreeSWITCH runs as, if that is not freeswitch
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

user=freeswitch
group=
while [ $# -gt 1 ]; do
    case $1 in
        --user) user=$2 ;;
        --group) group=$2 ;;
        *) fail "no such option: $1" ;;
    esac
    shift 2
done
[ $# -eq 1 ] || fail "say which folder: install.sh [--user NAME] [--group NAME] DIST"
group=${group:-$(id -gn "$user" 2>/dev/null || echo "$user")}
dist=$(cd "$1" && pwd) || fail "$1 is not a folder"
here=$(cd "$(dirname "$0")" && pwd)
[ -f "$dist/requirements.txt" ] || fail "$dist has no requirements.txt: run \`make dist\` first"
[ "$(id -u)" -eq 0 ] || fail "run it as root"
if dpkg-query -W -f '${Status}' freeswitch-voicemail 2>/dev/null | grep -q ' installed$'; then
    fail "the Debian package freeswitch-voicemail is installed: upgrade that one, or remove it first"
fi

python=
for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "Python 3.11 or newer with its venv module is needed (Debian: python3-venv); name one with PYTHON="

# Each release has a folder of its own, and /opt/voicemail is a link to one: an upgrade is one rename.
release=/opt/voicemail-$(sha256sum "$dist/requirements.txt" | cut -c1-12)
if [ ! -e "$release/.complete" ]; then
    rm -rf "$release"
    "$python" -m venv --without-pip "$release"
    # The host's pip, if it is new enough to install into another Python (22.3), leaves none behind.
    pip="$python -m pip --python $release/bin/python"
    if ! $pip --version >/dev/null 2>&1; then
        "$release/bin/python" -m ensurepip >/dev/null || fail "pip is needed (Debian: python3-venv or python3-pip)"
        pip="$release/bin/python -m pip"
    fi
    set -- --quiet --root-user-action ignore --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r requirements.txt
    [ ! -d "$dist/wheels" ] || set -- --no-index --find-links wheels "$@"
    (cd "$dist" && $pip install "$@")
    touch "$release/.complete"
fi
previous=$(readlink /opt/voicemail || true)
[ ! -d /opt/voicemail ] || [ -L /opt/voicemail ] || fail "/opt/voicemail is a folder: move it away, install.sh makes a link there"
ln -s "$release" /opt/voicemail.new
mv -T /opt/voicemail.new /opt/voicemail
install -d /usr/local/bin
ln -sfn /opt/voicemail/bin/voicemail /usr/local/bin/voicemail

"$here/prepare_host.sh" "$here/voicemail.env.example" "$user" "$group"

install -d /etc/systemd/system
install -m 0644 "$here/voicemail.service" /etc/systemd/system/voicemail.service
if [ "$user:$group" != freeswitch:freeswitch ]; then
    install -d /etc/systemd/system/voicemail.service.d
    printf '[Service]\nUser=%s\nGroup=%s\n' "$user" "$group" >/etc/systemd/system/voicemail.service.d/user.conf
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart voicemail.service
fi
if [ -n "$previous" ] && [ "$previous" != "$release" ]; then
    rm -rf "$previous"
fi

echo "$(/opt/voicemail/bin/voicemail --version) is in $release."
echo "Next: fill in /etc/voicemail.env, run \`voicemail doctor\`, then \`systemctl enable --now voicemail\`."
