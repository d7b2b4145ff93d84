#!/usr/bin/env bash
# Packs a build for a host that has a GPU but not the packages that the build needs:
#   tests/gpu/bundle.sh PRESET_BUILD_DIR OUT_DIR
# The build is one of preset static. OUT_DIR gets tenure-gpu.tar.xz with the programs, stripped, the
# shared objects they need that are not on every glibc system, the test data and run.sh. The
# last line printed unpacks it and starts the tests.
set -euo pipefail

if [[ $# -ne 2 || ! -x "$1/bin/tenured" ]]; then
  echo "usage: $0 PRESET_BUILD_DIR OUT_DIR" >&2
  exit 64
fi
BUILD="$(cd "$1" && pwd)"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly BUILD HERE
readonly LIMIT_BYTES=$((45 * 1024 * 1024))
readonly PROGRAMS=(tenured tenurectl inference_worker lease_client driver_contract_peer
  driver_contract_test cuda_test server_memory_test server_leases_test server_background_test
  integration_test client_integration_test kill_test
  survival_test segment_test weights_worker kernel_client kernel_fault_test daemon_death_test
  daemon_benchmark disturbance_benchmark)
# Parts of the C and C++ run time, which every host has that can run these programs.
readonly LIBRARIES='c|m|dl|rt|pthread|resolv|stdc\+\+|gcc_s'
readonly EVERYWHERE="^(lib($LIBRARIES)\.so\.[0-9]+|ld-linux-x86-64\.so\.2)\$"

mkdir -p "$2"
OUT_DIR="$(cd "$2" && pwd)"
STAGE="$(mktemp -d)"
readonly OUT_DIR STAGE
trap 'rm -rf "$STAGE"' EXIT
# Unpacked by root, the archive gives its folder this mode. Other users run one of the steps.
chmod 755 "$STAGE"
mkdir -p "$STAGE/bin" "$STAGE/data"

needed() { readelf --dynamic "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
# Where the dynamic linker finds a shared object that a file of the build needs.
located() { ldd "$1" | awk -v name="$2" '$1 == name && $3 ~ /^\// { print $3 }'; }

# bring FILE: copies it, stripped, and the shared objects it needs that are not on every host.
bring() {
  local file="$1" name target
  target="$STAGE/bin/$(basename "$file")"
  [[ -e "$target" ]] && return
  strip --strip-unneeded -o "$target" "$(realpath "$file")"
  for name in $(needed "$file"); do
    [[ $name =~ $EVERYWHERE || -e "$STAGE/bin/$name" ]] && continue
    local from
    from="$(located "$file" "$name")"
    [[ -n "$from" ]] || {
      echo "$file needs $name, which is not to be found" >&2
      exit 1
    }
    bring "$from"
  done
}

for program in "${PROGRAMS[@]}"; do bring "$BUILD/bin/$program"; done
for library in "$BUILD"/bin/*.so; do bring "$library"; done
cp "$HERE"/../data/* "$STAGE/data/"
cp "$HERE/run.sh" "$HERE/scene.sh" "$HERE/../../client/examples/shared_weights.sh" "$STAGE/"

# The bundle must not depend on what is installed on the host.
for file in "$STAGE"/bin/*; do
  for name in $(needed "$file"); do
    [[ $name =~ $EVERYWHERE || -e "$STAGE/bin/$name" ]] || {
      echo "$(basename "$file") needs $name, which the bundle lacks" >&2
      exit 1
    }
  done
done

# The programs share most of their code, so a dictionary as large as all of them makes the archive
# much smaller.
tar -C "$STAGE" -c . | xz --threads=1 --lzma2=preset=6,dict=256MiB >"$OUT_DIR/tenure-gpu.tar.xz"
bytes="$(stat --format=%s "$OUT_DIR/tenure-gpu.tar.xz")"
echo "$OUT_DIR/tenure-gpu.tar.xz: $((bytes / 1024)) KiB," \
  "$(find "$STAGE/bin" -type f | wc -l) files, $(du -sm "$STAGE" | cut -f1) MiB unpacked"
if [[ $bytes -gt $LIMIT_BYTES ]]; then
  echo "larger than $((LIMIT_BYTES / 1048576)) MiB" >&2
  exit 1
fi
echo "mkdir -p tenure-gpu && tar -xJf tenure-gpu.tar.xz -C tenure-gpu &&" \
  "tenure-gpu/run.sh tenure-gpu"
