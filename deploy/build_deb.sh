#!/bin/sh
# Builds the Debian package: a relocatable venv in /opt/voicemail, the unit, and the scripts of deploy/debian. `make deb` calls it.
# It is for the Debian release and architecture that it is built on, because the venv stands on that release's Python.
# usage: build_deb.sh FOLDER   (UV: the uv to use; DEB_PYTHON: the distribution's Python; DEB_COMPRESSION: xz, zstd, none; DEB_COMPILE: no)
set -eu
umask 022

cd "$(dirname "$0")/.."
uv=${UV:-uv}
python=${DEB_PYTHON:-/usr/bin/python3}
dist=$1
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) or not sys.prefix == "/usr")' ||
    { echo "build_deb.sh: $python must be the distribution's own Python, 3.11 or newer" >&2; exit 1; }

version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
minor=$("$python" -c 'import sys; print("3.%d" % sys.version_info.minor)')
next=$("$python" -c 'import sys; print("3.%d" % (sys.version_info.minor + 1))')
architecture=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
venv=$root/opt/voicemail

"$uv" venv --quiet --relocatable --no-project --python "$python" "$venv"
# Built again: uv would take the wheel that it made of this checkout before, whatever changed in it since.
UV_PROJECT_ENVIRONMENT=$venv "$uv" sync --quiet --frozen --no-dev --no-editable --link-mode copy --reinstall-package freeswitch-voicemail
# Of use to an activated venv only, or names of this machine.
rm -rf "$venv"/bin/activate* "$venv"/bin/deactivate* "$venv"/bin/pydoc* "$venv"/.lock "$venv"/.gitignore "$venv"/CACHEDIR.TAG
find "$venv" \( -name direct_url.json -o -name uv_cache.json -o -name uv_build.json \) -path '*.dist-info/*' -delete
sed -i '/direct_url.json,/d; /uv_cache.json,/d; /uv_build.json,/d' "$venv"/lib/python3*/site-packages/freeswitch_voicemail-*.dist-info/RECORD
# Compiled here, because the service may write nothing below /opt and would compile at every start.
find "$venv" -name __pycache__ -prune -exec rm -rf {} +
if [ "${DEB_COMPILE:-yes}" = yes ]; then
    # Some packages carry files for other Pythons, which do not compile.
    "$venv/bin/python" -m compileall -q -j 0 -s "$root" -p / "$venv/lib" >/dev/null || true
fi

install -D -m 0644 deploy/voicemail.service "$root/usr/lib/systemd/system/voicemail.service"
install -D -m 0644 deploy/voicemail.env.example "$root/usr/share/freeswitch-voicemail/voicemail.env.example"
install -D -m 0755 deploy/prepare_host.sh "$root/usr/share/freeswitch-voicemail/prepare_host.sh"
install -D -m 0644 LICENSE "$root/usr/share/doc/freeswitch-voicemail/copyright"
install -m 0644 README.md CHANGELOG.md docs/*.md "$root/usr/share/doc/freeswitch-voicemail/"
install -d "$root/usr/bin" "$root/DEBIAN"
ln -s /opt/voicemail/bin/voicemail "$root/usr/bin/voicemail"
for script in postinst prerm postrm; do
    install -m 0755 "deploy/debian/$script" "$root/DEBIAN/$script"
done
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@PYTHON@/$minor/; s/@NEXT_PYTHON@/$next/" \
    -e "s/@SIZE@/$(du -sk "$root" | cut -f1)/" deploy/debian/control.in >"$root/DEBIAN/control"
chmod -R u+w,go-w "$root"

mkdir -p "$dist"
package=$dist/freeswitch-voicemail_${version}_$architecture.deb
dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$root" "$package" >/dev/null
echo "$package"
