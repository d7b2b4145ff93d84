#!/usr/bin/env bash
# Installs the packages that tenure needs on Debian 12: `deploy/install-packages.sh build` those for
# the build, `deploy/install-packages.sh test` those for the tests as well. Does nothing when all are
# installed. Uses sudo when it is not root and something is missing.
#
# Building needs cuda.h, but no driver and no GPU. Without a CUDA toolkit, the header is taken from
# NVIDIA's own wheel and kept in .cache/cuda, where CMake looks for it.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT

readonly BUILD_PACKAGES=(
  ccache cmake g++ ninja-build pkg-config
  libabsl-dev libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libboost-dev libcli11-dev libisal-dev libspdlog-dev libsystemd-dev nlohmann-json3-dev
  prometheus-cpp-dev zlib1g-dev
)
readonly TEST_PACKAGES=(
  clang clang-format clang-tidy curl libbenchmark-dev libcpp-httplib-dev libgmock-dev libgtest-dev python3
  systemd
)
readonly CUDA_WHEEL="nvidia-cuda-runtime==13.0.88"

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

installed() {
  dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'
}

# install_packages NAME...: installs those that are missing.
install_packages() {
  local missing=()
  for package in "$@"; do
    installed "$package" || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  echo "installing packages: ${missing[*]}"
  # A failed update matters only if a package is then not found, which the install reports.
  as_root apt-get update -qq || true
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# Prints the folders in which CMake looks for cuda.h.
cuda_folders() {
  if [[ -n "${CUDA_HOME:-}" ]]; then echo "$CUDA_HOME/include"; fi
  echo /usr/local/cuda/include
  echo /usr/include
  echo "$ROOT/.cache/cuda/include"
}

have_cuda_header() {
  local folder
  while read -r folder; do
    [[ -f "$folder/cuda.h" ]] && return
  done < <(cuda_folders)
  return 1
}

fetch_cuda_header() {
  echo "no CUDA toolkit here: fetching cuda.h with $CUDA_WHEEL"
  # Not `installed python3-pip`: a python3 that is not Debian's has its own pip.
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3 python3-pip
  scratch="$(mktemp -d)"
  trap 'rm -rf "$scratch"' EXIT
  python3 -m pip download --quiet --no-deps --dest "$scratch" "$CUDA_WHEEL"
  python3 -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
  mkdir -p "$ROOT/.cache/cuda"
  rm -rf "$ROOT/.cache/cuda/include"
  mv "$scratch/wheel/nvidia/cu13/include" "$ROOT/.cache/cuda/include"
}

case "${1:-}" in
  build) install_packages "${BUILD_PACKAGES[@]}" ;;
  test) install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" ;;
  *)
    echo "usage: $0 build|test" >&2
    exit 64
    ;;
esac
have_cuda_header || fetch_cuda_header
