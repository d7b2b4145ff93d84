"""No file is longer than 500 lines, no header longer than 300, no function longer than 70."""

import ast
import re

import tree

FILE_LIMIT = 500
HEADER_LIMIT = 300
FUNCTION_LIMIT = 70
# A table in the form of a switch, one line a code: cutting it up would hide what it says.
TABLES = ("CodeOf(CUresult",)

# What the brace matcher must not look into: comments, raw strings, strings, characters, in this
# order of trial. A quote between digits (1'000) opens no character.
_OPAQUE = re.compile(
    r'//[^\n]*|/\*.*?\*/'
    r'|R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
    re.DOTALL)
_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")
_MEMBER = re.compile(r"\)[^{}]*(?<!:)[:,]\s*\w+\s*$")


def _blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def _kind(before, inside):
    """What the brace after this heading opens."""
    if inside:
        return "other"
    if _MEMBER.search(before):
        return "member"
    outside_brackets = re.sub(r"operator\S+|\(.*\)", "", before, flags=re.DOTALL)
    if ")" in before and "=" not in outside_brackets:
        return "function"
    return "scope" if _SCOPE.search(before) else "other"


def functions(text):
    """(first line, lines, heading) of each function of C++ text; lambdas count where they stand."""
    text = _OPAQUE.sub(_blank, text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", _blank, text, flags=re.MULTILINE)
    # What each open brace is: "scope", "function", "member" (initialised before a body), "other".
    stack = []
    starts = []  # where the heading of each open brace begins
    heading = 0  # where the text before the next brace begins
    for match in re.finditer(r"[{};]", text):
        at = match.start()
        if match.group() == "{":
            before = text[heading:at]
            stack.append(_kind(before, "function" in stack or "other" in stack))
            starts.append(heading + len(before) - len(before.lstrip()))
        elif match.group() == "}" and stack:
            kind, start = stack.pop(), starts.pop()
            if kind == "member":
                continue
            if kind == "function":
                first = text.count("\n", 0, start) + 1
                last = text.count("\n", 0, at) + 1
                yield first, last - first + 1, " ".join(text[start:at].split("{")[0].split())
        if not (stack and stack[-1] == "member"):
            heading = at + 1


def files(repository):
    for path, text in repository.texts():
        lines = len(text.splitlines())
        limit = HEADER_LIMIT if path.suffix == ".h" else FILE_LIMIT
        if lines > limit and path.name != "LICENSE":
            yield f"{path}:{lines}: {lines} lines; at most {limit}"


def cpp_functions(repository):
    for path in repository.code():
        for line, length, heading in functions(repository.text(path)):
            if any(table in heading for table in TABLES):
                continue
            if length > FUNCTION_LIMIT:
                yield f"{path}:{line}: {length} lines in '{heading}'; at most {FUNCTION_LIMIT}"


def python_functions(repository):
    for path in repository.files(".py"):
        for node in ast.walk(ast.parse(repository.text(path))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = node.end_lineno - node.lineno + 1
                if length > FUNCTION_LIMIT:
                    yield (f"{path}:{node.lineno}: {length} lines in '{node.name}'; "
                           f"at most {FUNCTION_LIMIT}")


if __name__ == "__main__":
    tree.run(files, cpp_functions, python_functions)
