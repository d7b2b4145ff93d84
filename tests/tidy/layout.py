"""Everything lies where it belongs: the top level, executable bits, each source in a target."""

import json
import os

import tree

_TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "README.md", "LICENSE",
              "proto", "server", "client", "common", "tests", "deploy"}


def top_level(repository):
    for name in repository.top_level():
        if name not in _TOP_LEVEL and not name.startswith("."):
            yield f"{name}:1: nothing else belongs on the top level"


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
    """A source that the build does not compile is one of which nobody knows whether it is right."""
    commands = json.loads((repository.build / "compile_commands.json").read_text())
    compiled = {os.path.realpath(os.path.join(command["directory"], command["file"]))
                for command in commands}
    for path in repository.files(".cc", ".cu"):
        if str(repository.root / path) not in compiled:
            yield f"{path}:1: no target compiles this file"


if __name__ == "__main__":
    tree.run(top_level, scripts, built)
