#!/usr/bin/env bash
# Installs packages, builds one preset of CMakePresets.json (default: dev) and runs every test that
# needs no GPU. The last lines are ctest's summary. More arguments go to ctest: tests/run.sh dev -R
# Heap. The presets tsa and static check the build itself, so they run nothing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly PRESET="${1:-dev}"
JOBS="$(nproc)"
readonly JOBS

deploy/install-packages.sh test
# The analysis of lock annotations concerns the rooms; in tests there are no locks to speak of.
tests=ON
[[ "$PRESET" == tsa ]] && tests=OFF
if [[ "$PRESET" == tsan ]]; then
  # The sanitizer must see what Abseil's locks order, in our code and in gRPC's.
  tests/tsan-abseil.sh .cache/abseil-tsan
  export LD_LIBRARY_PATH="$PWD/.cache/abseil-tsan${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
cmake --preset "$PRESET" --log-level=WARNING -DTENURE_TESTS="$tests"
cmake --build --preset "$PRESET" --parallel "$JOBS"

case "$PRESET" in
  tsa | static)
    echo "preset $PRESET is built; its tests are the same as those of dev"
    exit
    ;;
esac

# The thread sanitizer refuses to start if the kernel places memory at random over a wider range than
# the sanitizer knows. Without randomness it always starts.
fixed_addresses=()
if [[ "$PRESET" == tsan ]] && setarch --addr-no-randomize true 2>/dev/null; then
  fixed_addresses=(setarch --addr-no-randomize)
fi
# Up to GCC 13, the sanitizer takes some thread-local blocks of loaded libraries for those of an old
# glibc, and its search for leaks then reads an address that is none. So it does not track them.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=1:intercept_tls_get_addr=0}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
# gRPC and Protobuf are built without the sanitizer, so accesses that only they make are ignored. The
# suppressions name functions of Abseil and gRPC, and none of this project.
export TSAN_OPTIONS="${TSAN_OPTIONS:-second_deadlock_stack=1 ignore_noninstrumented_modules=1 suppressions=$PWD/tests/tsan.supp}"

"${fixed_addresses[@]}" ctest --test-dir "build/$PRESET" --output-on-failure --no-tests=error \
  --parallel "$JOBS" "${@:2}"
