#!/usr/bin/env bash
# Weights that outlive workers and daemon: one worker loads a file into GPU memory, others attach,
# and then workers and the daemon are killed in turn.
#   client/examples/shared_weights.sh BIN [FILE|MEBIBYTES]
# BIN is the folder of the programs, such as build/release/bin after deploy/quickstart.sh. FILE is the
# .safetensors file to load; without one, a file of that size is made (default 64). Uses the GPU if
# there is one, otherwise the emulated driver. Ends with 0 if no byte of the weights changed and no
# surviving worker was interrupted.
set -euo pipefail

if [[ $# -lt 1 || $# -gt 2 || ! -x "$1/tenured" ]]; then
  echo "usage: $0 BIN [FILE|MEBIBYTES]" >&2
  exit 64
fi
BIN="$(cd "$1" && pwd)"
readonly BIN WORKERS=4 ROUNDS=3 PATIENCE_SECONDS=60
WORK="$(mktemp -d "${TMPDIR:-/tmp}/tenure-weights-XXXXXX")"
readonly WORK
export TENURE_SOCKET="$WORK/grpc.sock" TENURE_EMULATED_DIR="${TENURE_EMULATED_DIR:-$WORK/card}"

workers=()
keeper=""

say() { printf '%-12s %s\n' "$1" "$2"; }
fail() {
  say FAILED "$1"
  tail -n 20 "$WORK"/*.log
  exit 1
}
clean_up() {
  local pid
  for pid in "${workers[@]}" $keeper; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$WORK"
}
trap clean_up EXIT

running() { kill -0 "$1" 2>/dev/null; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
# wait_for WHAT COMMAND...: repeats the command until it succeeds, at most PATIENCE_SECONDS.
wait_for() {
  local what="$1" until=$((SECONDS + PATIENCE_SECONDS))
  shift
  until "$@" 2>/dev/null; do
    [[ $SECONDS -lt $until ]] || fail "waited $PATIENCE_SECONDS s for $what"
    sleep 0.01
  done
}

# make_file MEBIBYTES: one tensor of random bytes. The format: the length of the header, 8 bytes,
# little-endian; the header, which is JSON; the data.
make_file() {
  local bytes=$(($1 << 20)) header length i
  header="{\"w\":{\"dtype\":\"U8\",\"shape\":[$bytes],\"data_offsets\":[0,$bytes]}}"
  length=${#header}
  for i in 0 1 2 3 4 5 6 7; do
    # shellcheck disable=SC2059
    printf "\\x$(printf '%02x' $(((length >> (8 * i)) & 255)))"
  done
  printf '%s' "$header"
  head -c "$bytes" /dev/urandom
}

serve() {
  "$BIN/tenured" --keeper --driver "$1" --emulated-memory 8GiB --socket "$TENURE_SOCKET" \
    --http off --log-level warn >"$WORK/daemon.log" 2>&1 &
  keeper=$!
  wait_for "tenured" serving_or_ended
  serving && return
  kill "$keeper" 2>/dev/null || true
  wait "$keeper" || true
  return 1
}
# The keeper's child.
daemon() { pgrep -P "$keeper" -x tenured; }
serving() { "$BIN/tenurectl" status --json 2>/dev/null | grep -q '"health": "SERVING"'; }
# Without a GPU the keeper starts the daemon again and again; its first error line ends the wait.
serving_or_ended() { serving || ! running "$keeper" || grep -q '\[error\]' "$WORK/daemon.log"; }

# start_worker: returns when the worker has printed its line, after its first kernel on the weights.
start_worker() {
  local log="$WORK/worker-$((started += 1)).log"
  "$BIN/weights_worker" weights "$FILE" --hold --verify >"$log" 2>&1 &
  workers+=($!)
  wait_for "a worker" grep -q 'after' "$log"
  say "" "$(cat "$log")"
}
started=0

kill_worker() {
  local victim="${workers[0]}"
  kill -KILL "$victim"
  wait "$victim" 2>/dev/null || true
  workers=("${workers[@]:1}")
  say "kill -9" "weights_worker $victim; its successor:"
  start_worker
}

kill_daemon() {
  local victim began
  victim="$(daemon)"
  began="$(milliseconds)"
  kill -KILL "$victim"
  wait_for "the next daemon" next_serves "$victim"
  say "kill -9" "tenured $victim; the next serves after $(($(milliseconds) - began)) ms"
}
next_serves() { [[ "$(daemon)" != "$1" ]] && serving; }

check() {
  local pid
  for pid in "${workers[@]}"; do running "$pid" || fail "worker $pid was interrupted"; done
  "$BIN/tenurectl" attach weights --check >"$WORK/check.log" || fail "the weights have changed"
  say check "$(tail -n 1 "$WORK/check.log")"
  wait_for "all workers' attachments" attached "$WORKERS"
}
attached() { "$BIN/tenurectl" status --json | grep -q "\"attachments\": $1,"; }

FILE="${2:-64}"
if [[ $FILE =~ ^[0-9]+$ ]]; then
  make_file "$FILE" >"$WORK/weights.safetensors"
  FILE="$WORK/weights.safetensors"
fi
serve cuda || serve emulated || fail "tenured does not start"
say workers "$WORKERS, of which the first loads $FILE:"
while [[ ${#workers[@]} -lt $WORKERS ]]; do start_worker; done
check
for ((round = 0; round < ROUNDS; ++round)); do
  kill_worker
  kill_daemon
  check
done
"$BIN/tenurectl" status | grep -A 1 '^survival'
say "all held" "$ROUNDS workers and $ROUNDS daemons were killed; every digest is right"
