#!/usr/bin/env bash
# Builds Abseil's locks once more, from the source of the installed package, with the thread
# sanitizer: tests/tsan-abseil.sh TARGET_DIR. Does nothing if they are built already.
#
# Debian's Abseil is built without it, so the sanitizer does not see the order that absl::Mutex makes,
# neither in this project's code nor in gRPC's, and reports races where there are none. The names and
# the ABI are the package's, so a program that finds this shared object first uses it, and so does
# gRPC. No other library of Abseil is rebuilt: in those, the sanitizer would check accesses of gRPC
# whose synchronisation it does not see.
set -euo pipefail

if [[ $# -ne 1 ]]; then
  echo "usage: $0 TARGET_DIR" >&2
  exit 64
fi
mkdir -p "$1"
TARGET="$(cd "$1" && pwd)"
VERSION="$(dpkg-query --show --showformat='${source:Version}' libabsl-dev)"
readonly TARGET VERSION
[[ -f "$TARGET/$VERSION" ]] && exit
SCRATCH="$(mktemp -d)"
readonly SCRATCH
trap 'rm -rf "$SCRATCH"' EXIT

# The source comes from where the package came from.
mkdir -p "$SCRATCH/sources" "$SCRATCH/lists/partial"
for list in /etc/apt/sources.list.d/*.sources; do
  [[ ! -e "$list" ]] ||
    sed 's/^Types: *deb$/Types: deb-src/' "$list" >"$SCRATCH/sources/$(basename "$list")"
done
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [[ ! -e "$list" ]] ||
    sed -n 's/^deb /deb-src /p' "$list" >"$SCRATCH/sources/$(basename "$list")"
done
apt=(apt-get -qq -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$SCRATCH/sources"
  -o "Dir::State::Lists=$SCRATCH/lists" -o APT::Sandbox::User=root)
(
  cd "$SCRATCH"
  "${apt[@]}" update
  "${apt[@]}" source --download-only "abseil=$VERSION"
  mkdir source
  tar --extract --file abseil_*.orig.tar.* --directory source --strip-components=1
  tar --extract --file abseil_*.debian.tar.* --directory source
  while read -r patch; do
    patch --quiet --strip=1 --directory source <"source/debian/patches/$patch"
  done < <(sed '/^ *#/d; /^ *$/d' source/debian/patches/series)
)
launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
CCACHE_BASEDIR="$SCRATCH" CCACHE_NOHASHDIR=1 cmake -S "$SCRATCH/source" -B "$SCRATCH/build" -G Ninja \
  --log-level=WARNING "${launcher[@]}" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_SHARED_LIBS=ON \
  -DCMAKE_CXX_STANDARD=14 -DCMAKE_CXX_FLAGS="-fsanitize=thread -g1" >/dev/null
CCACHE_BASEDIR="$SCRATCH" CCACHE_NOHASHDIR=1 cmake --build "$SCRATCH/build" --target synchronization >/dev/null
find "$SCRATCH/build" -name 'libabsl_synchronization.so*' -exec cp --no-dereference {} "$TARGET" \;
touch "$TARGET/$VERSION"
