"""Everything lies where it belongs: the top level, the rooms, executable bits, the names of files,
each source in a target.
"""

import collections
import itertools
import json
import os

import tree

_TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "README.md", "LICENSE",
              "proto", "server", "client", "common", "tests", "deploy"}
SERVER_ROOMS = ("background", "calls", "identity", "journal", "keeper", "leases", "memory", "report",
                "transport")
# Files that lie in a room itself, not in a folder below it.
_MOST_FILES = {"server": 12, "client": 24}
_NAMED = (".h", ".cc", ".cu", ".py", ".sh", ".proto")


def top_level(repository):
    for name in repository.top_level():
        if name not in _TOP_LEVEL and not name.startswith("."):
            yield f"{name}:1: nothing else belongs on the top level"


def rooms(repository):
    """server/ has nine rooms, and its top and the client's stay small enough to be seen at once."""
    found = {path.parts[1] for path in repository.files()
             if path.parts[0] == "server" and len(path.parts) > 2}
    for room in sorted(found.symmetric_difference(SERVER_ROOMS)):
        problem = "is no room of the server" if room in found else "is missing"
        yield f"server/{room}:1: {problem}; the rooms are {', '.join(SERVER_ROOMS)}"
    for folder, most in _MOST_FILES.items():
        count = sum(str(path.parent) == folder for path in repository.files())
        if count > most:
            yield f"{folder}:1: {count} files side by side; at most {most}"


def _confusable(one, other):
    """Whether one letter more, less or changed, or a plural, makes one of two names the other. Words
    of one or two letters are names of their own: ls, ps."""
    singular = ["_".join(word.removesuffix("s") for word in name.split("_"))
                for name in (one, other)]
    if singular[0] == singular[1]:
        return True
    different = set(one.split("_")).symmetric_difference(other.split("_"))
    if different and all(len(word) <= 2 for word in different):
        return False
    same = len(os.path.commonprefix([one, other]))
    rest, other_rest = one[same:], other[same:]
    return other_rest in (rest[1:], rest) or rest == other_rest[1:] or rest[1:] == other_rest[1:]


def names(repository):
    """No two files side by side whose names differ by a letter: x.h and x.cc have one name."""
    folders = collections.defaultdict(dict)
    for path in repository.files(*_NAMED):
        folders[path.parent].setdefault(path.stem, path)
    for stems in folders.values():
        for one, other in itertools.combinations(sorted(stems), 2):
            if _confusable(one, other):
                yield f"{stems[one]}:1: its name is nearly that of {stems[other].name}"


def headings(repository):
    for path in repository.files(".h"):
        if not repository.text(path).startswith("// "):
            yield f"{path}:1: the first line of a header is a comment that says what it is"


def scripts(repository):
    for path, text in repository.texts():
        executable = os.access(repository.root / path, os.X_OK)
        script = text.startswith("#!")
        if executable and not script:
            yield f"{path}:1: executable, but without a #! line"
        if script and not executable:
            yield f"{path}:1: a script that is not executable"
        if script and "bash" in text.splitlines()[0] and "\nset -euo pipefail\n" not in text:
            yield f"{path}:1: a shell script ends at its first error: set -euo pipefail"


def built(repository):
    """Every source is compiled by the build: one that is not may be wrong without notice."""
    commands = json.loads((repository.build / "compile_commands.json").read_text())
    compiled = {os.path.realpath(os.path.join(command["directory"], command["file"]))
                for command in commands}
    for path in repository.files(".cc", ".cu"):
        if str(repository.root / path) not in compiled:
            yield f"{path}:1: no target compiles this file"


if __name__ == "__main__":
    tree.run(top_level, rooms, names, headings, scripts, built)
