"""What the documents name exists: links, paths, files, programs, subcommands, flags, quoted code."""

import functools
import re
import shlex
import subprocess

import tree

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")
_ROOMS = ("proto", "common", "server", "client", "tests", "deploy", ".ci")
_PATH = re.compile(
    rf"(?<![\w./$-])((?:{'|'.join(map(re.escape, _ROOMS))})/[\w./@*-]*[\w*])")
# A file without its way from the root: relative to the document's folder, or its name alone.
_FILE = re.compile(r"(?:[\w@.-]+/)*[\w@.-]+\.(?:h|cc|cu|py|sh|md|proto|service|sysusers|cmake)")
# Headers that are not the project's.
_FOREIGN_FILES = ("cuda.h", "nvml.h")
_FLAG = re.compile(r"^--[a-z][a-z-]*")


class Block:
    """A fenced block of a document, or a span of code inside a line of it."""

    def __init__(self, path, line, language, text):
        self.path, self.line, self.language, self.text = path, line, language, text


def blocks(repository):
    for path in repository.files(".md"):
        text = repository.text(path)
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(path, line, match.group(1), match.group(2))
        prose = _FENCE.sub(lambda match: "\n" * match.group(0).count("\n"), text)
        for match in _INLINE.finditer(prose):
            yield Block(path, prose.count("\n", 0, match.start()) + 1, None, match.group(1))


def links(repository):
    for path in repository.files(".md"):
        text = repository.text(path)
        for match in _LINK.finditer(text):
            if not repository.has(path.parent / match.group(1)):
                line = text.count("\n", 0, match.start()) + 1
                yield f"{path}:{line}: there is no {match.group(1)}"


def paths(repository):
    for block in blocks(repository):
        for match in _PATH.finditer(block.text):
            if not list(repository.root.glob(match.group(1))):
                yield f"{block.path}:{block.line}: there is no {match.group(1)}"


def files(repository):
    """A file named in the prose lies in the document's folder or below it, under that name."""
    everything = ["/" + str(path) for path in repository.files()]
    for block in blocks(repository):
        name = block.text
        if block.language is not None or not _FILE.fullmatch(name) or name in _FOREIGN_FILES:
            continue
        folder = "/" if block.path.parent == block.path.parent.parent else f"/{block.path.parent}/"
        near = [path for path in everything if path.startswith(folder)]
        if not any(path.endswith("/" + name) for path in near) and not repository.has(name):
            yield f"{block.path}:{block.line}: there is no {name} in {block.path.parent}"


def _commands(block):
    """The words of each command in a block: in a console those after '$ ', else every line."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        elif block.language not in ("sh", None):
            continue
        for command in re.split(r"&&|\|\|?|;|&(?!\d)", line):
            try:
                words = shlex.split(command, comments=True)
            except ValueError:
                continue
            while words and (re.match(r"^[A-Z_]+=", words[0]) or words[0] in ("sudo", "env")):
                words = words[1:]
            if words:
                yield words


@functools.lru_cache(maxsize=None)
def _help(program, subcommand=None):
    """What the program says of itself; None when it knows no such subcommand."""
    command = [program, subcommand, "--help"] if subcommand else [program, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout if done.returncode == 0 else None


def _names(text, flag):
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) is not None


def _programs(repository):
    """Those people call by name, with subcommands or without."""
    return {path.name: str(path) for path in (repository.build / "bin").glob("*")
            if path.name in ("tenured", "tenurectl", "inference_worker", "weights_worker")}


def flags(repository):
    programs = _programs(repository)
    for block in blocks(repository):
        for words in _commands(block):
            program = programs.get(words[0].split("/")[-1])
            if program is None:
                continue
            text = _help(program)
            if words[0].endswith("tenurectl") and re.match(r"^[a-z]+$", " ".join(words[1:2])):
                subcommand = _help(program, words[1])
                if subcommand is None:
                    yield f"{block.path}:{block.line}: {words[0]} has no '{words[1]}'"
                    continue
                text += subcommand
            for word in words[1:]:
                flag = _FLAG.match(word)
                if flag and not _names(text, flag.group()):
                    yield f"{block.path}:{block.line}: {words[0]} has no {flag.group()}"


def bare_flags(repository):
    """A flag that stands alone in the prose is one that some program has."""
    helps = [_help(program) for program in _programs(repository).values()]
    for block in blocks(repository):
        flag = _FLAG.match(block.text) if block.language is None else None
        if flag and not any(_names(text, flag.group()) for text in helps):
            yield f"{block.path}:{block.line}: no program has {flag.group()}"


def examples(repository):
    """C++ in a document is part of an example that is compiled."""
    sources = [repository.text(path) for path in repository.code() if "examples" in path.parts]
    for block in blocks(repository):
        if block.language == "cpp" and not any(block.text.strip() in source for source in sources):
            yield f"{block.path}:{block.line}: these lines are in no file of client/examples"


if __name__ == "__main__":
    tree.run(links, paths, files, flags, bare_flags, examples)
