"""Includes point one way, proto <- common <- server and client, and never in a circle."""

import pathlib
import re

import tree

_INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)
_ROOMS = ("proto", "common", "server", "client", "tests")
# Which rooms a file of a room may include. The proto room's headers are generated as tenure/v1/,
# but for the journal's, which is the daemon's own.
_MAY_INCLUDE = {
    "common": ("common", "proto"),
    "server": ("server", "common", "proto", "journal"),
    "client": ("client", "common", "proto"),
    "tests": _ROOMS + ("journal",),
}
_CUDA_HEADERS = re.compile(r"^(cuda|cuda_runtime|cuda_runtime_api|cudaTypedefs|nvrtc|nvml)\.h$")
# The heap calculates with numbers.
_NOT_IN_HEAP = re.compile(
    r"^(common/cuda/|tenure/v1/|grpc|google/protobuf|absl/synchronization/"
    r"|(thread|mutex|shared_mutex|atomic|condition_variable|future|pthread\.h)$)")
_GENERATED = ("common/version.h",)


def _includes(text):
    """(line, quoted, name) of every include."""
    for match in _INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start(2)) + 1, match.group(1) == '"', match.group(2)


def _room_of_include(name):
    if name.startswith("tenure/v1/"):
        return "proto"
    if name.startswith("tenure/journal/"):
        return "journal"
    if name.startswith("tenure/"):
        return "client"
    return name.split("/")[0]


def rooms(repository):
    for path in repository.code():
        room = path.parts[0]
        for line, quoted, name in _includes(repository.text(path)):
            target = _room_of_include(name)
            if quoted and "/" not in name:
                yield f"{path}:{line}: write '{name}' as a path from the root of the repository"
            if target in _ROOMS + ("journal",) and target not in _MAY_INCLUDE.get(room, ()):
                yield f"{path}:{line}: {room} may not include {target} ({name})"


def cuda(repository):
    for path in repository.code():
        for line, _, name in _includes(repository.text(path)):
            if _CUDA_HEADERS.match(name) and path.parts[:2] != ("common", "cuda"):
                yield f"{path}:{line}: only common/cuda includes {name}; use common/cuda/driver.h"


def heap(repository):
    for path in repository.code():
        if path.parts[:2] != ("common", "heap"):
            continue
        for line, _, name in _includes(repository.text(path)):
            if _NOT_IN_HEAP.match(name):
                yield f"{path}:{line}: the heap knows no driver, no RPC and no threads ({name})"


def existing(repository):
    for path in repository.code():
        for line, quoted, name in _includes(repository.text(path)):
            ours = quoted and name.split("/")[0] in _ROOMS
            if ours and name not in _GENERATED and not repository.has(name):
                yield f"{path}:{line}: there is no {name}"


def guards(repository):
    for path in repository.files(".h"):
        named = pathlib.PurePath(str(path).replace("client/include/", "", 1))
        guard = re.sub(r"[^A-Z0-9]", "_", str(named).upper()) + "_"
        if f"#ifndef {guard}\n#define {guard}\n" not in repository.text(path):
            yield f"{path}:1: the include guard of this file is {guard}"


def circles(repository):
    graph = {str(path): [name for _, quoted, name in _includes(repository.text(path)) if quoted]
             for path in repository.files(".h")}
    done = set()

    def visit(name, trail):
        if name in trail:
            circle = trail[trail.index(name):] + [name]
            yield f"{name}:1: includes itself by way of {' -> '.join(circle)}"
            return
        if name in done or name not in graph:
            return
        for target in graph[name]:
            yield from visit(target, trail + [name])
        done.add(name)

    for start in sorted(graph):
        yield from visit(start, [])


if __name__ == "__main__":
    tree.run(rooms, cuda, heap, existing, guards, circles)
