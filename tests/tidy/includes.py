"""Includes point one way, from room to room, and never in a circle."""

import pathlib
import re

import tree

_INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)
# The rooms, and the others that a file of each may include besides its own. A folder that is not
# named here may not be included. A room is a folder with all folders below it that are not rooms themselves.
_COMMON = {"common", "common/cuda"}
_ROOMS = {
    "proto": set(),
    "common": {"common/heap", "common/cuda"},
    "common/heap": {"common"},
    "common/cuda": {"common"},
    "server/identity": {"common"},
    "server/keeper": {"common"},
    "server/transport": {"common", "server/identity"},
    "server/journal": {"common", "proto/journal", "server/identity"},
    "server/memory": _COMMON | {"common/heap", "server/identity", "server/keeper"},
    "server/leases": _COMMON | {"common/heap", "proto/journal", "server/identity", "server/journal",
                                "server/keeper", "server/memory"},
    "server/background": _COMMON | {"server/identity", "server/leases", "server/memory"},
    "server/report": _COMMON | {"common/heap", "server/identity", "server/keeper", "server/leases",
                                "server/memory", "server/transport"},
    "server/calls": _COMMON | {"common/heap", "proto", "server/background", "server/identity",
                               "server/leases", "server/memory", "server/report",
                               "server/transport"},
    # main and daemon connect all rooms; no room includes them.
    "server": _COMMON | {"server/*"},
    "client/weights": {"common", "client/values"},
    "client/session": _COMMON | {"client/values", "proto"},
    "client": _COMMON | {"client/session", "client/values", "client/weights"},
    "client/ctl": _COMMON | {"client", "client/session", "client/values", "client/weights", "proto"},
    "client/ctl/replay": _COMMON | {"client", "client/ctl", "client/session", "client/values",
                                    "proto"},
    "client/examples": _COMMON | {"client", "client/values", "client/weights"},
    "tests": {"*"},
}
# Plain values of the client's interface. They lie at the client's top, because users include them, and
# its rooms may include them as well.
_CLIENT_VALUES = {"client/options.h", "client/segment_layout.h"}

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


def _room(name):
    """The room of a path, or of an include as it is written."""
    if name.startswith("tenure/v1/"):
        return "proto"
    if name.startswith("tenure/journal/"):
        return "proto/journal"
    if name.startswith("tenure/") or name in _CLIENT_VALUES:
        return "client/values" if name in _CLIENT_VALUES else "client"
    folder = name.rpartition("/")[0]
    while folder and folder not in _ROOMS:
        folder = folder.rpartition("/")[0]
    return folder or None


def _may_include(path, room, target):
    # The file of a program wires it, so it may include what lies in folders of its own.
    if path.name == "main.cc" and target.startswith(room + "/"):
        return True
    allowed = _ROOMS.get(room, set())
    return (target in allowed or "*" in allowed
            or target.rpartition("/")[0] + "/*" in allowed)


def allowed(room):
    """The rooms that a file of this one may include besides its own."""
    return _ROOMS[room]


def rooms_below(room):
    """All rooms that a file of this room may include, by way of others too."""
    below, left = set(), [room]
    while left:
        for target in _ROOMS.get(left.pop(), ()):
            named = [target]
            if target.endswith("/*"):
                named = [name for name in _ROOMS if name.rpartition("/")[0] == target[:-2]]
            left.extend(set(named) - below)
            below.update(named)
    return below


def rooms(repository):
    for path in repository.code():
        room = _room(str(path))
        room = "client" if room == "client/values" else room
        for line, quoted, name in _includes(repository.text(path)):
            target = _room(name)
            if quoted and "/" not in name:
                yield f"{path}:{line}: write '{name}' as a path from the root of the repository"
            elif target and target != room and not _may_include(path, room, target):
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
            ours = quoted and name.split("/")[0] in ("common", "server", "client", "tests")
            if ours and name not in _GENERATED and not repository.has(name):
                yield f"{path}:{line}: there is no {name}"


def guards(repository):
    for path in repository.files(".h"):
        named = pathlib.PurePath(str(path).replace("client/include/", "", 1))
        guard = re.sub(r"[^A-Z0-9]", "_", str(named).upper()) + "_"
        if f"#ifndef {guard}\n#define {guard}\n" not in repository.text(path):
            yield f"{path}:1: the include guard of this file is {guard}"


def _unit(name):
    """x.h and x.cc are one unit, with x_internal.h if there is one: what one of them includes, all
    depend on."""
    return str(pathlib.PurePath(name).with_suffix("")).removesuffix("_internal")


def _units(repository):
    """For each unit, the units that it includes, each with the "path:line" of one such include."""
    graph = {}
    for path in repository.code():
        unit = _unit(path)
        targets = graph.setdefault(unit, {})
        for line, quoted, name in _includes(repository.text(path)):
            if quoted and _unit(name) != unit:
                targets.setdefault(_unit(name), f"{path}:{line}")
    return graph


def circles(repository):
    graph = _units(repository)
    done = set()

    def visit(unit, trail):
        trail = trail + [unit]
        for target, place in graph[unit].items():
            if target in trail:
                circle = trail[trail.index(target):] + [target]
                yield f"{place}: closes the circle {' -> '.join(circle)}"
            elif target in graph and target not in done:
                yield from visit(target, trail)
        done.add(unit)

    for start in sorted(graph):
        if start not in done:
            yield from visit(start, [])


if __name__ == "__main__":
    tree.run(rooms, cuda, heap, existing, guards, circles)
