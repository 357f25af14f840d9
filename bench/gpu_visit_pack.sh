#!/usr/bin/env bash
# Puts into .visit/ what bench/gpu_visit.sh needs on a machine without network, beside the tracked tree:
# wheels of what the package imports (torch, torchvision, numpy and pandas are there), data sets, the commit's id.
# usage: bench/gpu_visit_pack.sh DATA     DATA: folder with cifar10-jpeg.tar.gz (and imagenet-tiny40.tar.gz)
#   MINORS="12": only for these minor versions of Python 3, where they are known: 2 MB each
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: bench/gpu_visit_pack.sh DATA}
most=$((60 * 1000 * 1000))
python=.venv/bin/python
pure="annotated-doc annotated-types click filelock jinja2 markdown-it-py mdurl pydantic pygments rich ruamel.yaml
      shellingham typer typing-inspection typing-extensions"

rm -rf .visit
mkdir -p .visit/wheels .visit/data
version() { $python -c "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))" "$1" 2>/dev/null; }
fetch() { $python -m pip download --quiet --no-deps --only-binary=:all: --dest .visit/wheels "$@" 2>&1 | grep -v WARNING || true; }
for name in $pure; do
    number=$(version "$name") && fetch "$name==$number"
done
fetch --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 "safetensors==$(version safetensors)"
for minor in ${MINORS:-11 12 13 14}; do
    fetch --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --python-version 3.$minor \
        "pydantic-core==$(version pydantic-core)"
done
for name in cifar10-jpeg.tar.gz imagenet-tiny40.tar.gz; do
    [ -f "$data/$name" ] && cp "$data/$name" .visit/data/
done
change=$($python -c "from layerprune.suite.run import prepare; print(prepare._dirty_digest() or '')")
echo "$(git rev-parse HEAD) $change" >.visit/commit

tracked=$(git ls-files -z --cached --others --exclude-standard | xargs -0 cat | wc -c)
packed=$(find .visit -type f -print0 | xargs -0 cat | wc -c)
echo "tree $((tracked / 1000000)) MB + .visit $((packed / 1000000)) MB of $((most / 1000000)) MB"
if [ $((tracked + packed)) -gt $most ]; then
    rm -f .visit/data/imagenet-tiny40.tar.gz
    packed=$(find .visit -type f -print0 | xargs -0 cat | wc -c)
    echo "without imagenet-tiny40.tar.gz: $(((tracked + packed) / 1000000)) MB"
    [ $((tracked + packed)) -le $most ] || { echo "too large" >&2; exit 1; }
fi
