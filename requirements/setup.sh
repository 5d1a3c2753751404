#!/bin/sh
# Sets up .venv, which `make` calls. All that it installs has a known hash: uv in uv.txt, what builds in pyproject.toml, the rest in uv.lock.
# usage: setup.sh run|dev   (PYTHON: the Python to use; VENV: the folder)
set -eu
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

usable() {
    # A shim of pyenv may be there and still start nothing; a Debian without python3-venv has no ensurepip.
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    usable "$PYTHON" || {
        echo "voicemail: PYTHON=$PYTHON is not usable: Python 3.11 to 3.14 with venv and ensurepip (Debian: python3-venv) is needed" >&2
        exit 1
    }
else
    for name in python3.11 python3.12 python3.13 python3.14 python3; do
        if usable "$name"; then
            PYTHON=$name
            break
        fi
    done
    if [ -z "${PYTHON:-}" ]; then
        echo "voicemail: no Python 3.11 to 3.14 with venv and ensurepip (Debian: python3-venv) was found; name one: make PYTHON=/path/to/python3" >&2
        exit 1
    fi
fi

# pip has certificates of its own: give it the system's, as a company's proxy needs it. uv is told the same.
if [ -z "${PIP_CERT:-}${REQUESTS_CA_BUNDLE:-}${CURL_CA_BUNDLE:-}" ]; then
    for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
        if [ -n "$file" ] && [ -r "$file" ]; then
            export PIP_CERT="$file"
            break
        fi
    done
fi
export UV_SYSTEM_CERTS=1

echo "voicemail: setting up $venv with $PYTHON (once; about half a minute) ..."
"$PYTHON" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r requirements/uv.txt
# --inexact: what `make lint` installed stays.
case $1 in
    run) set -- --no-dev --extra sandbox --inexact ;;
    dev) set -- --all-extras ;;
esac
VIRTUAL_ENV="$PWD/$venv" "$venv/bin/uv" sync --active --frozen --no-progress "$@"
