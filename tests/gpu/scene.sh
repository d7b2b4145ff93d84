#!/usr/bin/env bash
# Runs one scene with a tenured on the GPU, and checks its end:
#   tests/gpu/scene.sh worker BIN         an inference worker computes on the GPU, and each result is right
#   tests/gpu/scene.sh replay BIN TRACE   two processes replay a recorded trace beside a worker that
#                                         is then killed; nothing stays leased
set -euo pipefail

readonly SCENE="$1" BIN="$2" TRACE="${3:-}"
FOLDER="$(mktemp -d)"
readonly FOLDER
export TENURE_SOCKET="$FOLDER/grpc.sock"
clean_up() {
  local pid
  for pid in $(jobs -pr); do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$FOLDER"
}
trap clean_up EXIT

worker() {
  "$BIN/inference_worker" --repeat 2000 | tee "$FOLDER/worker.txt"
  grep -q 'on the GPU' "$FOLDER/worker.txt"
}

replay() {
  "$BIN/inference_worker" --forever &
  local worker=$!
  "$BIN/tenurectl" replay "$TRACE" --workers 2 --repeat 3
  kill -KILL "$worker"
  until "$BIN/tenurectl" status --json | grep -q '"leased_bytes": 0,'; do sleep 0.05; done
  "$BIN/tenurectl" status --json | grep '"active_sessions": 0,'
}

"$BIN/tenured" --driver "${TENURE_DRIVER:-cuda}" --http off --socket "$TENURE_SOCKET" &
daemon=$!
until [[ -S "$TENURE_SOCKET" ]]; do
  kill -0 "$daemon" 2>/dev/null || {
    echo "tenured does not start"
    exit 1
  }
  sleep 0.05
done
"$SCENE"
"$BIN/tenurectl" status
kill -TERM "$daemon"
wait "$daemon"
