"""Nothing is left undone, switched off, or tied to one machine."""

import re

import tree

# Each pattern is written so that it does not match itself.
_FORBIDDEN = (
    (re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b"), "say it in an issue, or do it"),
    (re.compile(r"\bDISABLE[D]_"), "a test that does not run is no test"),
    (re.compile(r"^\s*#\s*if\s+[0]\b"), "dead code"),
    (re.compile(r"GTEST_SKI[P]\(\)\s*;"), "a skipped test says in words why"),
    (re.compile(r"/(wor[k]|roo[t]|hom[e])/[a-z]"), "a path of one machine"),
    (re.compile(r"(py[p]i|python[h]osted|np[m]js|cra[t]es\.io|ru[b]ygems|proxy\.go[l]ang"
                r"|deb\.de[b]ian|archive\.ub[u]ntu|docke[r]\.io|ghc[r]\.io|qua[y]\.io)"),
     "which registry is asked is the machine's business"),
)
_SLEEP = re.compile(r"\b(sleep_for|sleep_until|SleepFor|usleep|nanosleep|sleep)\s*\(")


def forbidden(repository):
    for path, text in repository.texts():
        for number, line in enumerate(text.splitlines(), 1):
            for pattern, why in _FORBIDDEN:
                found = pattern.search(line)
                if found:
                    yield f"{path}:{number}: '{found.group()}': {why}"


def sleeps(repository):
    """Tests wait for conditions. Only the helper that does so sleeps; any other sleep says why."""
    for path in repository.code():
        if path.parts[0] != "tests" or path.parts[1] == "support" or "test" not in path.name:
            continue
        lines = repository.text(path).splitlines()
        for number, line in enumerate(lines, 1):
            explained = number > 1 and lines[number - 2].lstrip().startswith("//")
            if _SLEEP.search(line.split("//")[0]) and not explained:
                yield f"{path}:{number}: wait for a condition, or say above why time is the point"


if __name__ == "__main__":
    tree.run(forbidden, sleeps)
