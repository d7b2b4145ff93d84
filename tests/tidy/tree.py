"""The files of the repository, and how a rule is run over them.

A rule is a function from a Tree to the faults it finds, each a line "path:number: what is wrong".
rules_test.py tries each on trees made for the purpose, so that no rule passes by never finding
anything.
"""

import pathlib
import sys

_NOT_OURS = ("build", ".git", ".cache", "__pycache__", "compile_commands.json")
_CODE = (".h", ".cc", ".cu")


class Tree:
    """`build` is a configured build folder of the tree, where a rule wants one."""

    def __init__(self, root, build=None):
        self.root = pathlib.Path(root).resolve()
        self.build = pathlib.Path(build).resolve() if build else None

    def files(self, *suffixes):
        """Paths relative to the root, sorted; of these suffixes where any are given."""
        return sorted(path for path in self._walk(self.root)
                      if not suffixes or path.suffix in suffixes)

    def code(self):
        return self.files(*_CODE)

    def text(self, path):
        return (self.root / path).read_text(encoding="utf-8")

    def texts(self):
        """All files that are text, with their text."""
        for path in self.files():
            try:
                yield path, self.text(path)
            except UnicodeDecodeError:
                continue

    def has(self, path):
        return (self.root / path).exists()

    def top_level(self):
        return sorted(path.name for path in self.root.iterdir() if not _foreign(path.name))

    def _walk(self, folder):
        for path in folder.iterdir():
            if _foreign(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                yield from self._walk(path)
            else:
                yield path.relative_to(self.root)


def _foreign(name):
    return name in _NOT_OURS or name.startswith("build-")


def run(*rules):
    """What `python3 RULES.py ROOT [BUILD]` does: prints all faults; 1 if there are any."""
    tree = Tree(*sys.argv[1:])
    faults = [fault for rule in rules for fault in rule(tree)]
    for fault in faults:
        print(fault)
    if not tree.code():
        sys.exit(f"{tree.root}: no code found: this is not the repository")
    sys.exit(1 if faults else 0)
