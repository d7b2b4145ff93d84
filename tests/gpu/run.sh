#!/usr/bin/env bash
# Runs the tests that need a GPU, on a host that has one: tests/gpu/run.sh BUILD_DIR [STEP...]
#
# BUILD_DIR is a build of preset static, or what bundle.sh made of one. The host needs NVIDIA's
# driver and, for kernels, NVRTC from a CUDA toolkit or from pip. Every step runs, also after one
# that failed; with names of steps, only those. Results lie in $OUT (default BUILD_DIR/gpu-results):
# log.txt, summary.json, benchmark.json. Ends with 0 if every step held.
set -euo pipefail

if [[ $# -lt 1 || ! -x "$1/bin/tenured" ]]; then
  echo "usage: $0 BUILD_DIR (with bin/tenured in it) [STEP...]" >&2
  exit 64
fi
BUILD="$(cd "$1" && pwd)"
shift
wanted=("$@")
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly BUILD HERE BIN="$BUILD/bin"
readonly RESULTS="${OUT:-$BUILD/gpu-results}"
readonly STEP_SECONDS=240
mkdir -p "$RESULTS"
readonly LOG="$RESULTS/log.txt"
: >"$LOG"

# Shared objects that bundle.sh put beside the programs need each other, too.
export LD_LIBRARY_PATH="$BIN${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export TENURE_DRIVER=cuda
export TENURE_KILLS="${TENURE_KILLS:-50}"

# The trace lies beside a bundle's programs, else in the source tree.
trace="$BUILD/data/small.trace.gz"
[[ -f "$trace" ]] || trace="$HERE/../data/small.trace.gz"
shared_weights="$BUILD/shared_weights.sh"
[[ -f "$shared_weights" ]] || shared_weights="$HERE/../../client/examples/shared_weights.sh"

# NVRTC is no part of the driver: from a toolkit the linker knows, from its folder, or from pip.
find_nvrtc() {
  local folder
  ldconfig -p 2>/dev/null | awk '/libnvrtc\.so\.1[23] / { print $NF }'
  for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib64 /usr/local/cuda*/lib64; do
    compgen -G "$folder/libnvrtc.so.1[23]" || true
  done
  python3 -c 'import glob, site, sys
for folder in {*site.getsitepackages(), *sys.path}:
    for file in glob.glob(folder + "/nvidia/*/lib/libnvrtc.so.1[23]"): print(file)' 2>/dev/null ||
    true
}
if [[ -z "${TENURE_NVRTC:-}" ]]; then
  found="$(find_nvrtc)"
  TENURE_NVRTC="${found%%$'\n'*}"
  export TENURE_NVRTC
fi

rows=()  # the result of each step: name|outcome|tests passed|failed|skipped|seconds

# count PATTERN FILE: the number in gtest's line of that kind, 0 without one.
count() {
  sed -n "s/^\[  $1 *\] \([0-9]*\) tests\{0,1\}[,.].*/\1/p" "$2" | tail -n 1 | grep . || echo 0
}

# step NAME COMMAND...: runs it with a time limit and keeps its output.
step() {
  local name="$1" output began=$SECONDS code=0
  shift
  [[ ${#wanted[@]} -eq 0 || " ${wanted[*]} " == *" $name "* ]] || return 0
  output="$(mktemp)"
  printf '\n==== %s: %s\n' "$name" "$*" | tee -a "$LOG"
  timeout --kill-after=10 "$STEP_SECONDS" "$@" >"$output" 2>&1 || code=$?
  cat "$output" >>"$LOG"
  local passed failed skipped outcome=ok
  passed="$(count PASSED "$output")"
  failed="$(count FAILED "$output")"
  skipped="$(count SKIPPED "$output")"
  if [[ $code -ne 0 ]]; then
    outcome="FAILED ($code)"
    tail -n 60 "$output"
  fi
  grep -E '^\[  SKIPPED|Skipped$' "$output" | sort -u || true
  rm -f "$output"
  rows+=("$name|$outcome|$passed|$failed|$skipped|$((SECONDS - began))")
  echo "==== $name: $outcome, $((SECONDS - began)) s"
}

used_memory() {
  nvidia-smi --id=0 --query-gpu=memory.used --format=csv,noheader,nounits 2>/dev/null || true
}
gpu="$(nvidia-smi --id=0 --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null)" ||
  gpu="unknown"
before="$(used_memory)"
printf 'GPU: %s\nNVRTC: %s\nkernel: %s\n' "$gpu" "${TENURE_NVRTC:-none}" "$(uname -r)" |
  tee -a "$LOG"

step "driver-contract" "$BIN/driver_contract_test"
step "kernel-compiler" "$BIN/cuda_test" --gtest_filter='NvrtcTest.*'
step "server-memory" "$BIN/server_memory_test"
step "server-leases" "$BIN/server_leases_test"
step "server-background" "$BIN/server_background_test"
step "daemon" "$BIN/integration_test"
# The replays among them read a trace by the path of the source tree; here they are a step.
step "client" "$BIN/client_integration_test" --gtest_filter='-*Replay*'
step "kills" "$BIN/kill_test"
step "survival" "$BIN/survival_test"
step "segments" "$BIN/segment_test"
step "daemon-deaths" "$BIN/daemon_death_test"
step "kernels-and-faults" "$BIN/kernel_fault_test"
step "inference-worker" "$HERE/scene.sh" worker "$BIN"
step "shared-weights" "$shared_weights" "$BIN" 1024
step "replay-and-kill" "$HERE/scene.sh" replay "$BIN" "$trace"
# The unit in deploy runs the daemon as a user without rights, and so does this step.
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs)
if "${nobody[@]}" test -x "$BIN/tenured" -a -r "$trace" 2>/dev/null; then
  step "unprivileged" "${nobody[@]}" "$HERE/scene.sh" replay "$BIN" "$trace"
else
  echo "unprivileged: left out, because user 65534 may not run $BIN/tenured"
fi
step "benchmark" "$BIN/daemon_benchmark" --benchmark_out="$RESULTS/benchmark.json" \
  --benchmark_out_format=json
step "disturbance" "$BIN/disturbance_benchmark"
after="$(used_memory)"

failed=0
{
  printf '{\n  "gpu": "%s",\n  "kills": %s,\n' "$gpu" "$TENURE_KILLS"
  printf '  "used_mib_before": %s,\n  "used_mib_after": %s,\n  "steps": [' \
    "${before:-null}" "${after:-null}"
  separator=""
  for row in "${rows[@]}"; do
    IFS='|' read -r name outcome passed bad skipped seconds <<<"$row"
    printf '%s\n    {"name": "%s", "outcome": "%s", ' "$separator" "$name" "$outcome"
    printf '"passed": %s, "failed": %s, "skipped": %s, ' "$passed" "$bad" "$skipped"
    printf '"seconds": %s}' "$seconds"
    separator=","
  done
  printf '\n  ]\n}\n'
} >"$RESULTS/summary.json"

sed -n '/^ratio of medians/,/^$/p; /^figure: /p' "$LOG"
{
  printf '%-18s %-12s %7s %7s %8s %8s\n' step outcome passed failed skipped seconds
  for row in "${rows[@]}"; do
    IFS='|' read -r name outcome passed bad skipped seconds <<<"$row"
    [[ $outcome == ok ]] || failed=1
    printf '%-18s %-12s %7s %7s %8s %8s\n' "$name" "$outcome" "$passed" "$bad" "$skipped" "$seconds"
  done
  echo "GPU memory in use: ${before:-?} MiB before, ${after:-?} MiB after"
} > >(tee -a "$LOG")
wait
exit "$failed"
