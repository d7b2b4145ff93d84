#!/usr/bin/env bash
# Builds what the documents and deploy/quickstart.sh run, into build/release, without the tests.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake --preset release --log-level=WARNING -DTENURE_TESTS=OFF
cmake --build --preset release \
  --target tenured tenurectl inference_worker weights_worker five_lines tenure_client_shared
