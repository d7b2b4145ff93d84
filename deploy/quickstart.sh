#!/usr/bin/env bash
# From a bare Debian 12 to leased GPU memory: installs packages, builds, starts a daemon and workers
# that lease from it, kills one worker and shows that its memory comes back. Leaves nothing running,
# and no files but build/release. Ends with 0 only if every step succeeded.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT
readonly BIN="$ROOT/build/release/bin"
readonly PATIENCE_SECONDS=60
WORK="$(mktemp -d "${TMPDIR:-/tmp}/tenure-quickstart-XXXXXX")"
readonly WORK
export TENURE_SOCKET="$WORK/grpc.sock" TENURE_EMULATED_DIR="$WORK/card"

workers=()
replay=""
daemon=""

say() { printf '%-12s %s\n' "$1" "$2"; }
indented() { sed 's/^/             /' "$@"; }
fail() {
  say FAILED "$1"
  [[ -z "${2:-}" ]] || tail -n 40 "$2" | indented
  exit 1
}
running() { kill -0 "$1" 2>/dev/null; }

# However this script ends, it ends every process that it started.
clean_up() {
  local pid
  for pid in "${workers[@]}" $replay $daemon; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$WORK"
}
trap clean_up EXIT

# wait_for WHAT COMMAND...: repeats the command until it succeeds, at most PATIENCE_SECONDS.
wait_for() {
  local what="$1" until=$((SECONDS + PATIENCE_SECONDS))
  shift
  until "$@" 2>/dev/null; do
    [[ $SECONDS -lt $until ]] || fail "waited $PATIENCE_SECONDS s for $what" "$WORK/daemon.log"
    sleep 0.02
  done
}

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
mebibytes() { echo "$(($1 / 1048576)) MiB"; }
# number NAME: the value of the number with that name in the JSON on stdin.
number() { sed -n "s/^ *\"$1\": \([0-9]*\),\{0,1\}$/\1/p"; }
# The memory of each session, on one line.
holdings() {
  sessions | awk '{ printf "%s%s %d MiB", (NR > 1 ? ", " : "leased now: "), $3, $2 / 1048576 }'
}
status() { "$BIN/tenurectl" status --json | number "$1"; }
# sessions: "PID LEASED_BYTES NAME" for each.
sessions() {
  "$BIN/tenurectl" ps --json | sed 's/[",]//g' | awk '
    $1 == "pid:" { pid = $2 } $1 == "name:" { name = $2 }
    $1 == "leased_bytes:" { print pid, $2, name }'
}

build() {
  say packages "checking, installing what is missing"
  (cd "$ROOT" && deploy/install-packages.sh build) | indented
  local began=$SECONDS log="$WORK/build.log"
  say build "tenured, tenurectl, workers and an example in build/release; the first time takes minutes"
  "$ROOT/deploy/build.sh" >"$log" 2>&1 || fail "it does not build:" "$log"
  say "" "built in $((SECONDS - began)) s"
}

# serve DRIVER: starts a daemon on that driver; fails if it does not serve.
serve() {
  "$BIN/tenured" --driver "$1" --emulated-memory 16GiB --socket "$TENURE_SOCKET" --http off \
    >"$WORK/daemon.log" 2>&1 &
  daemon=$!
  wait_for "tenured" started
  [[ -S "$TENURE_SOCKET" ]] && return
  wait "$daemon" || true
  daemon=""
  return 1
}
started() { [[ -S "$TENURE_SOCKET" ]] || ! running "$daemon"; }

start_daemon() {
  driver=cuda
  if ! serve cuda; then
    say daemon "no GPU here: $(sed -n 's/.*\[error\] //p' "$WORK/daemon.log" | cut -d: -f1)"
    driver=emulated
    serve emulated || fail "tenured does not start:" "$WORK/daemon.log"
  fi
  if [[ $driver == cuda ]]; then
    say daemon "tenured (pid $daemon) owns GPU 0 through libcuda.so.1"
  else
    say daemon "tenured (pid $daemon) serves on the EMULATED driver: host memory replaces the GPU"
  fi
}

start_workers() {
  local i
  for i in 1 2 3; do
    "$BIN/inference_worker" --forever >"$WORK/worker-$i.log" 2>&1 &
    workers+=($!)
  done
  "$BIN/tenurectl" replay "$ROOT/tests/data/small.trace.gz" --workers 2 --repeat 1 --allow-deaths \
    >"$WORK/replay.log" 2>&1 &
  replay=$!
  say workers "3 multiply matrices in leased memory, 2 replay the allocations of a PyTorch training run"
  wait_for "the workers' sessions" all_at_work
}
all_at_work() { [[ "$(status active_sessions)" -eq 5 && -n "$(victim)" ]]; }
# A replaying worker that holds at least 128 MiB: "PID LEASED_BYTES NAME".
victim() { sessions | awk '/replay/ && $2 >= 128 * 1048576 && !found++'; }

kill_one() {
  local pid bytes name killed
  read -r pid bytes name <<<"$(victim)"
  say "" "$(holdings)"
  kill -KILL "$pid"
  killed="$(milliseconds)"
  say "kill -9" "$name (pid $pid), which holds $(mebibytes "$bytes")"
  wait_for "its memory" back "$pid"
  killed=$(($(milliseconds) - killed))
  say "" "its memory is back after $killed ms: no session of pid $pid, nothing in quarantine"
  say "" "$(holdings)"
}
back() {
  [[ -z "$(sessions | awk -v pid="$1" '$1 == pid')" && "$(status quarantined_bytes)" -eq 0 &&
    "$(status sessions_reclaimed)" -ge 1 ]]
}

show_status() {
  say status "tenurectl status"
  "$BIN/tenurectl" status | indented
}

finish_workers() {
  local i
  wait "$replay" || fail "the replay failed:" "$WORK/replay.log"
  replay=""
  say workers "$(grep '^books' "$WORK/replay.log" | tr -s ' '), by the surviving worker"
  for i in 1 2 3; do
    running "${workers[i - 1]}" || fail "an inference worker failed:" "$WORK/worker-$i.log"
    kill "${workers[i - 1]}"
    wait "${workers[i - 1]}" || true
    indented <(tail -n 1 "$WORK/worker-$i.log")
  done
  workers=()
  wait_for "the workers' memory" all_given_back
  say "" "all have ended, and the daemon leases no memory any more"
}
all_given_back() {
  [[ "$(status active_sessions)" -eq 0 && "$(status leased_bytes)" -eq 0 &&
    "$(status quarantined_bytes)" -eq 0 ]]
}

stop_daemon() {
  local pid="$daemon" code=0
  kill -TERM "$pid"
  wait "$pid" || code=$?
  daemon=""
  [[ $code -eq 0 ]] || fail "tenured ended with $code:" "$WORK/daemon.log"
  [[ ! -e "$TENURE_SOCKET" ]] || fail "the socket $TENURE_SOCKET is still there"
  [[ -z "$(jobs -pr)" ]] || fail "still running: $(jobs -pr)"
  if [[ $driver == emulated ]]; then
    [[ -z "$(find "$WORK/card" -name 'memory-*')" ]] || fail "the emulated GPU is not empty"
  elif command -v nvidia-smi >/dev/null; then
    ! nvidia-smi --query-compute-apps=pid --format=csv,noheader | grep -qx "$pid" ||
      fail "the driver still names tenured (pid $pid)"
  fi
  say stopped "tenured ended with 0 on SIGTERM: no socket, no process, no GPU memory is left"
}

build
start_daemon
start_workers
kill_one
show_status
finish_workers
stop_daemon
say "all held" "$SECONDS s. Next: README.md, deploy/README.md, and tests/run.sh"
