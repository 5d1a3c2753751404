#!/bin/sh
# Builds the wheel and requirements.txt, which names it and everything it needs with hashes. `make dist` calls it.
# usage: build_dist.sh FOLDER   (UV: the uv to use)
set -eu

cd "$(dirname "$0")/.."
uv=${UV:-uv}
dist=$1
mkdir -p "$dist"
rm -f "$dist"/freeswitch_voicemail-*.whl
"$uv" build --quiet --wheel --out-dir "$dist"
wheel=$(cd "$dist" && ls freeswitch_voicemail-*.whl)
{
    "$uv" export --quiet --frozen --no-dev --no-emit-project --no-header --no-annotate --format requirements.txt
    echo "./$wheel --hash=sha256:$(sha256sum "$dist/$wheel" | cut -d' ' -f1)"
} >"$dist/requirements.txt"
echo "$dist/$wheel and $dist/requirements.txt"
