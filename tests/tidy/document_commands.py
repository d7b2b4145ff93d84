"""Runs a document: all its commands in order, in one fresh shell, as its reader would type them.

    document_commands.py ROOT DOCUMENT         runs the commands of this document
    document_commands.py ROOT --exempt BUILD   checks the list of commands that cannot run

Commands are the ```sh blocks and the lines of ```console blocks that begin with "$ ". The shell
begins in the root of the repository, after a quickstart build (deploy/build.sh). It has a TMPDIR, an
XDG_RUNTIME_DIR and a folder for the emulated device of its own, and nothing else: what a document
needs, a running daemon included, its own earlier commands start, and its last ones stop.
"""

import collections
import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import documents
import tree

_DEADLINE_SECONDS = 300
# What the last commands have asked to end may take this long to do so.
_END_SECONDS = 5
_PR_SET_CHILD_SUBREAPER = 36

# A command that a test cannot run: a pattern for all of it, the reason, and what covers it: a test
# of ctest, or a command that .ci/run has as a section.
Exempt = collections.namedtuple("Exempt", "pattern reason covered_by")
CANNOT_RUN = (
    Exempt(r"deploy/quickstart\.sh", "a section of .ci/run", "deploy/quickstart.sh"),
    Exempt(r"tests/run\.sh( \w+)?( -R \w+)?", "a section of .ci/run", "tests/run.sh dev"),
    Exempt(r"(sudo )?deploy/install-packages\.sh \w+", "needs root and a network",
           "deploy/quickstart.sh"),
    Exempt(r"cmake --preset release && cmake --build --preset release", "takes many minutes",
           "deploy/quickstart.sh"),
    Exempt(r"sudo cmake --install build/release .*", "changes the host",
           "Deploy.an_installed_daemon_starts_and_its_unit_names_it"),
    Exempt(r"(sudo systemd-sysusers && )?(sudo )?(systemctl|journalctl) .*",
           "needs systemd as process 1", "Deploy.systemd_understands_every_line_of_the_unit"),
    Exempt(r"grpcurl .*", "Debian 12 has no package of it",
           "DaemonTest.ReflectionNamesAndDescribesTheServices"),
    Exempt(r"cmake --build --preset dev --target simulation_campaign", "takes half an hour",
           "SimulationTest.TheRulesHoldWhateverHappens"),
    Exempt(r"cmake --build --preset dev --target fault_campaign", "takes half an hour",
           "KillTest.KilledClientsMemoryComesBackAndNoRegionIsGivenTwice"),
    Exempt(r"cmake --build --preset dev --target survival_campaign", "takes half an hour",
           "DaemonKillTest.NoByteAndNoLeaseIsLostHoweverOftenTheDaemonDies"),
    Exempt(r"cmake --build --preset dev --target systemd_campaign",
           "fetches a Debian and boots its systemd", "FdStoreTest.ThreeHundredDeathsLeakNoDescriptor"),
    Exempt(r"cmake --preset fuzz && .*", "runs without end", "Fuzz.framesCorpus"),
    Exempt(r"tests/gpu/bundle\.sh .*", "needs the preset static", "tests/run.sh static"),
    Exempt(r".*tenure-gpu/run\.sh .*", "needs a GPU", "tests/run.sh static"),
)


def _console(text):
    """(line within the block, command) of each line that begins with "$ "."""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if not line.startswith("$ "):
            continue
        command = line[2:]
        while command.endswith("\\"):
            command = command[:-1].rstrip() + " " + next(lines)[1].strip()
        yield number, command


def commands(repository, document):
    """(line, text) of all that a document's reader types."""
    for block in documents.blocks(repository):
        if block.path != document:
            continue
        if block.language == "sh":
            yield block.line, block.text
        elif block.language == "console":
            for number, command in _console(block.text):
                yield block.line + number, command + "\n"


def hidden_failures(repository, document):
    """The shell ends at a command that fails, yet not at the first of two that && joins."""
    for line, text in commands(repository, document):
        if _exempt(text):
            continue
        for number, words in enumerate(text.splitlines()):
            if "&&" in words and not re.match(r"\s*(if|while|until) ", words):
                # A block begins after its fence, a console command on its own line.
                at = line + number + (1 if "\n" in text.strip() else 0)
                yield f"{document}:{at}: && hides the failure of its first command: write two lines"


def _exempt(command):
    return any(re.fullmatch(row.pattern, command.strip()) for row in CANNOT_RUN)


def _children():
    """Processes below this one that still run: {pid: command line}. Those that have ended are
    reaped."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if int(after_name[1]) != os.getpid():
            continue
        if after_name[0] == "Z":
            os.waitpid(int(folder.name), 0)
        else:
            found[int(folder.name)] = words
    return found


def _end_children():
    """Kills what still runs after a moment, and names it."""
    deadline = time.monotonic() + _END_SECONDS
    while _children() and time.monotonic() < deadline:
        time.sleep(0.05)
    left = []
    # The end of one makes its children ours.
    while running := _children():
        for pid, words in running.items():
            left.append(words)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return left


def _environment(folder):
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("TENURE_")}
    for name, part in (("TMPDIR", "tmp"), ("XDG_RUNTIME_DIR", "run")):
        (folder / part).mkdir(mode=0o700)
        environment[name] = str(folder / part)
    environment["TENURE_EMULATED_DIR"] = str(folder / "card")
    return environment


def _run_script(repository, folder, script):
    """The shell's exit code; None when it did not end in time."""
    file = folder / "document.sh"
    file.write_text(script, encoding="utf-8")
    with subprocess.Popen(["bash", "-euo", "pipefail", file], cwd=repository.root,
                          env=_environment(folder), stdin=subprocess.DEVNULL) as shell:
        try:
            return shell.wait(_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            shell.kill()
            return None


def run(repository, document):
    """Runs the commands of a document. The faults: the block that failed, what was left running."""
    # Processes that lose their parent become children of this one, so that none escapes.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tenure-document-"))
    position = folder / "position"
    position.write_text("0")
    script = "".join(f"echo {line} >{position}\n{text}" for line, text in
                     commands(repository, document) if not _exempt(text))
    try:
        sys.stdout.flush()
        code = _run_script(repository, folder, script)
        line = position.read_text().strip()
        faults = list(hidden_failures(repository, document))
        if code != 0:
            outcome = f"ended with {code}" if code is not None else "did not end in time"
            faults.append(f"{document}:{line}: the commands here {outcome}")
        faults += [f"{document}:{line}: left running: {words}" for words in _end_children()]
        return faults
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_exempt(repository, rows, tests):
    """Every row stands for a command of some document, and what covers it exists."""
    typed = set()
    faults = []
    for document in repository.files(".md"):
        found = [text.strip() for _, text in commands(repository, document)]
        typed.update(found)
        if found and document.name != "README.md":
            faults.append(f"{document}:1: has commands; only those of a README.md are run")
    sections = repository.text(".ci/run") if repository.has(".ci/run") else ""
    for row in rows:
        where = f"tests/tidy/document_commands.py:1: '{row.pattern}'"
        if not any(re.fullmatch(row.pattern, command) for command in typed):
            faults.append(f"{where}: no document has this command")
        if row.covered_by not in tests and not re.search(
                rf" {re.escape(row.covered_by)}$", sections, re.MULTILINE):
            faults.append(f"{where}: there is no test {row.covered_by}")
    return faults


def _tests_of(build):
    listed = subprocess.run(["ctest", "--test-dir", build, "-N"], capture_output=True, text=True,
                            check=True).stdout
    # A parametrised case is listed once for each parameter: Set/Suite.Case/0.
    return {name for match in re.finditer(r"^ +Test +#\d+: (\S+)", listed, re.MULTILINE)
            for name in (match.group(1), re.sub(r"^\w+/|/\w+$", "", match.group(1)))}


def main():
    repository = tree.Tree(sys.argv[1])
    if sys.argv[2] == "--exempt":
        faults = check_exempt(repository, CANNOT_RUN, _tests_of(sys.argv[3]))
    else:
        faults = run(repository, pathlib.Path(sys.argv[2]))
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
