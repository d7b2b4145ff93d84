"""What is written twice says the same twice.

The state diagram and the table of the lease; the limits in common/ and in the comments of the
.proto; the rooms that files may include, those that CMake links and those that server/README.md
lists; the table of tests that carry another name than what they try.
"""

import pathlib
import re

import includes
import layout
import tree

_DIAGRAM = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TRANSITION = re.compile(r"^\s*([A-Z]+) --> ([A-Z]+) : (.+?)\s*$")
_ROW = re.compile(r"\{\s*\w+::k(\w+),\s*\w+::k(\w+),\s*\w+::k(\w+)\s*\}")
_NAME = re.compile(r"case (?:\w+::)+k(\w+):\s*return \"([^\"]+)\";")

# Each constant, and where the .proto says the same: "Message.field", or "" for the comment before
# the syntax. A constant that a client never meets names no place.
_PROTO = "proto/tenure/v1/allocator.proto"
LIMITS = {
    "kMaxBatch": ("AllocateBatchRequest.requests", "FreeBatchRequest.requests",
                  "ReleaseRegionsRequest.region_ids"),
    "kMaxMessageBytes": ("",),
    "kFreeKeepAlives": ("",),
    "kMaxSessionName": ("OpenSessionRequest.name",),
    "kMaxSegmentName": ("PublishSegmentRequest.name",),
    "kMaxSegmentBlocks": ("PublishSegmentRequest.allocation_ids",),
    "kMaxSegmentTensors": ("PublishSegmentRequest.tensors",),
    "kMaxTensorName": ("SegmentTensor.name",),
    "kMaxTensorDtype": ("SegmentTensor.dtype",),
    "kMaxTensorDimensions": ("SegmentTensor.shape",),
    "kMaxAllowedUids": ("PublishSegmentRequest.allowed_uids",),
    "kDigestBytes": ("PublishSegmentRequest.digest",),
    "kTicketBytes": ("RequestRegionFdResponse.ticket",),
}
_LIMIT_FILES = ("common/limits.h", "common/fd_socket.h")
# Constants that concern no field: the longest answer on fd.sock is described in proto/README.md.
_NO_FIELD = ("kFdAnswerBytes",)
_CONSTANT = re.compile(r"constexpr size_t (k\w+) = ([^;]+);")


def _table(repository):
    """The rows of kTable as (state, event, state), in the words of NameOf."""
    for path in repository.code():
        text = repository.text(path)
        if path.parts[0] == "server" and "kTable[]" in text:
            names = dict(_NAME.findall(text))
            body = text[text.index("kTable[]"):]
            body = body[:body.index("};")]
            return {tuple(names.get(word, word) for word in row) for row in _ROW.findall(body)}
    return set()


def _transitions(diagram):
    found = set()
    for line in diagram.splitlines():
        match = _TRANSITION.match(line)
        if match:
            found.add((match.group(1), match.group(3), match.group(2)))
    return found


def lease_states(repository):
    """Each state diagram of a document has every row of the lease's table, and no other."""
    table = _table(repository)
    diagrams = 0
    for path in repository.files(".md"):
        text = repository.text(path)
        for match in _DIAGRAM.finditer(text):
            diagrams += 1
            line = text.count("\n", 0, match.start()) + 1
            drawn = _transitions(match.group(1))
            for begin, event, end in sorted(table ^ drawn):
                where = "not drawn" if (begin, event, end) in table else "not in the table"
                yield f"{path}:{line}: {begin} --> {end} : {event} is {where}"
    if table and not diagrams:
        yield "server/README.md:1: no document draws the states of the lease"


def _constants(repository):
    for path in map(pathlib.Path, _LIMIT_FILES):
        if not repository.has(path):
            continue
        text = repository.text(path)
        for match in _CONSTANT.finditer(text):
            # "size_t{4} << 20", "1024".
            shift = [int(number) for number in re.findall(r"\b\d+\b", match.group(2))]
            value = shift[0] << shift[1] if "<<" in match.group(2) else shift[0]
            yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}", match.group(1), value


def field_comments(text):
    """"Message.field" → the comment above it, or on its line; "" → the comment of the file."""
    comments, messages, words = {}, [], []
    for line in text.splitlines():
        code, _, comment = line.partition("//")
        code = code.strip()
        if comment:
            words.append(comment.strip())
        if code.startswith("syntax"):
            comments[""] = " ".join(words)
        field = re.match(r"(?:repeated |optional )?[\w.]+ (\w+) = \d+", code)
        if field and messages:
            comments[f"{messages[-1]}.{field.group(1)}"] = " ".join(words)
        opened = re.match(r"(?:message|enum|oneof|service) (\w+) \{", code)
        if opened:
            # The fields of a oneof belong to the message around it.
            inner = messages[-1] if code.startswith("oneof") else opened.group(1)
            messages.append(inner)
        if code.endswith("}") and "{" not in code and messages:
            messages.pop()
        if code:
            words = []
    return comments


def _written(value):
    """As a comment writes a number."""
    return f"{value >> 20} MiB" if value >= 1 << 20 else str(value)


def limits(repository):
    if not repository.has(_PROTO):
        return
    comments = field_comments(repository.text(_PROTO))
    for place, constant, value in _constants(repository):
        if constant in _NO_FIELD:
            continue
        if constant not in LIMITS:
            yield f"{place}: {constant}: say in tests/tidy/agreement.py which fields it limits"
        for field in LIMITS.get(constant, ()):
            comment = comments.get(field, "")
            if not re.search(rf"(?<![\d.]){_written(value)}\b", comment):
                yield f"{place}: {constant} is {_written(value)}, and the comment of " \
                      f"'{field}' in {_PROTO} does not say so"


# The CMake target of each room.
_TARGETS = {f"tenure_{room}": f"server/{room}" for room in layout.SERVER_ROOMS}
_TARGETS.update(tenure_daemon="server", tenure_weights="client/weights",
                tenure_session="client/session", tenure_client="client", tenure_ctl="client/ctl",
                tenure_replay="client/ctl/replay")
_CALL = re.compile(r"^(tenure_room|tenure_server_test|tenure_client_test)\(([^)]*)\)", re.MULTILINE)


def _linked(text):
    """(line, the rooms whose targets it names) of each library and test program."""
    for match in _CALL.finditer(text):
        words = match.group(2).split()
        line = text.count("\n", 0, match.start()) + 1
        first = f"tenure_{words[0]}" if match.group(1) == "tenure_server_test" else None
        named = ([first] if first else []) + words[1:]
        yield line, {_TARGETS[word] for word in named if word in _TARGETS}


def links(repository):
    """A room, and the test program of a room, link that room and those below it, and no other."""
    for room in sorted(set(_TARGETS.values())):
        below = includes.rooms_below(room) | {room}
        for folder in (room, f"tests/{room}"):
            path = pathlib.Path(folder) / "CMakeLists.txt"
            if not repository.has(path):
                continue
            for line, linked in _linked(repository.text(path)):
                for other in sorted(linked - below):
                    yield f"{path}:{line}: {room} may not link {other}"
                if folder.startswith("tests/") and linked and room not in linked:
                    yield f"{path}:{line}: the tests of {room} link that room"


_ROOMS_DOCUMENT = "server/README.md"
_ROOM_ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \|([^|]*)\|$")
_DOCUMENTED = {"proto": "proto/tenure/v1", "proto/journal": "proto/tenure/journal"}


def rooms(repository):
    """The table of rooms in server/README.md has the arrows that includes.py allows."""
    if not repository.has(_ROOMS_DOCUMENT):
        return
    text = repository.text(_ROOMS_DOCUMENT)
    table = {match.group(1): (number, set(re.findall(r"`([^`]+)`", match.group(2))))
             for number, line in enumerate(text.splitlines(), 1)
             for match in [_ROOM_ROW.match(line)] if match}
    for room in layout.SERVER_ROOMS:
        allowed = {_DOCUMENTED.get(other, other.removeprefix("server/"))
                   for other in includes.allowed(f"server/{room}")}
        allowed -= {"common", "common/cuda"}
        number, written = table.get(room, (1, set()))
        for other in sorted(allowed ^ written):
            wrong = "may not use" if other in written else "may also use"
            yield f"{_ROOMS_DOCUMENT}:{number}: {room} {wrong} {other}"


_TESTS = "tests/README.md"
_TABLE_ROW = re.compile(r"^\| `?([^|`]+?)`? \| `([^|`]+)` \| `([^|`]+)` \|$")


def _has_case(text, case):
    suite, _, name = case.rpartition(".")
    return re.search(rf"\bTEST(?:_[FP])?\(\s*{re.escape(suite)},\s*{re.escape(name)}\s*\)", text)


def tests(repository):
    """The table "subject | file | case" of tests/README.md names tests that exist."""
    if not repository.has(_TESTS):
        return
    inside = False
    for number, line in enumerate(repository.text(_TESTS).splitlines(), 1):
        if line.replace(" ", "") == "|subject|file|case|":
            inside = True
        elif not line.startswith("|"):
            inside = False
        row = _TABLE_ROW.match(line)
        if not inside or not row:
            continue
        _, file, case = row.groups()
        if not repository.has(file):
            yield f"{_TESTS}:{number}: there is no {file}"
        elif not _has_case(repository.text(file), case):
            yield f"{_TESTS}:{number}: {file} has no case {case}"


if __name__ == "__main__":
    tree.run(lease_states, limits, links, rooms, tests)
