"""Runs every ```sh block of the documents as it stands, with a daemon on an emulated device.

What a test cannot run (it installs packages, builds, or needs a program that is not ours) stands in
```console.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import documents
import tree

_DEADLINE_SECONDS = 60


class Daemon:
    """A tenured in a folder of its own. Ends with the `with` block, which checks its exit code."""

    def __init__(self, programs):
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="tenure-documents-"))
        self._socket = self._folder / "grpc.sock"
        self._programs = programs
        self.environment = dict(
            os.environ, PATH=f"{programs}:{os.environ['PATH']}", TENURE_SOCKET=str(self._socket),
            TENURE_EMULATED_DIR=str(self._folder / "card"))

    def __enter__(self):
        self._process = subprocess.Popen(
            [self._programs / "tenured", "--driver", "emulated", "--emulated-memory", "16GiB",
             "--http", "off", "--socket", self._socket, "--log-level", "warn"],
            env=self.environment)
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not self._socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the daemon did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self._process.terminate()
        code = self._process.wait(_DEADLINE_SECONDS)
        shutil.rmtree(self._folder)
        if code != 0:
            raise RuntimeError(f"the daemon ended with {code}")


def main():
    repository = tree.Tree(*sys.argv[1:])
    commands = [block for block in documents.blocks(repository) if block.language == "sh"]
    if not commands:
        sys.exit("no document has a sh block")
    failed = False
    with Daemon(repository.build / "bin") as daemon:
        for block in commands:
            print(f"{block.path}:{block.line}:", flush=True)
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text], env=daemon.environment,
                cwd=repository.root, timeout=_DEADLINE_SECONDS, check=False)
            if done.returncode != 0:
                print(f"{block.path}:{block.line}: ended with {done.returncode}")
                failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
