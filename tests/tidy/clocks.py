"""Nothing in daemon and client measures time on the wall clock, which is set back and forth.

Leases run on the boot clock (common/clock.h), waits on the monotonic clock (common/timed_cond_var.h
and client/session/deadline.h). A line that needs the wall clock says "// wall clock: " and why.
"""

import re

import tree

_WALL_CLOCK = re.compile(r"\babsl::Now\b|\babsl::Time\b|\w+With(Timeout|Deadline)\s*\("
                         r"|\bsystem_clock\b|\bCLOCK_REALTIME\b|\bgettimeofday\b|\btime\(nullptr\)")
_REASON = re.compile(r"//.*\bwall clock: \w")


def waits(repository):
    for path in repository.code():
        if path.parts[0] not in ("common", "server", "client"):
            continue
        for number, line in enumerate(repository.text(path).splitlines(), 1):
            found = _WALL_CLOCK.search(line.split("//")[0])
            if found and not _REASON.search(line):
                yield f"{path}:{number}: '{found.group()}' is on the wall clock"


if __name__ == "__main__":
    tree.run(waits)
