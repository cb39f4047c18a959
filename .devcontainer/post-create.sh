#!/usr/bin/env bash
# Inside a new dev container: the development tools and this checkout, without touching the image's
# torch.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=$(mktemp)
wanted=$(mktemp)
python docker/environment.py pins > "$pins"
python docker/environment.py requirements dev > "$wanted"
python -m pip install --constraint "$pins" --requirement "$wanted"
python -m pip install --no-deps --no-build-isolation --editable .
python docker/environment.py check
