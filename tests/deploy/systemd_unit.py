#!/usr/bin/env python3
"""The shipped unit in a booted systemd, with the emulated driver, as user tenure.

systemd_unit.py SOURCE BUILD

A client of another user that hangs is killed with the unit's one capability, and without it the log
says, once, that it still runs. The daemon reports to systemd, whose journal has the priorities.
Needs what systemd_fd_store.py needs, and keeps the container's files where that one does.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import systemd_fd_store as container

CLIENT = """[Service]
User=daemon
SupplementaryGroups=tenure
Environment=LD_LIBRARY_PATH=/opt/tenure TENURE_EMULATED_DIR=/var/lib/card
ExecStart=/usr/bin/lease_client hold /run/tenured/0/grpc.sock 4096
"""
DROP_IN = """[Service]
Environment=LD_LIBRARY_PATH=/opt/tenure TENURE_EMULATED_DIR=/var/lib/card
ReadWritePaths=/var/lib/card
UMask=0
"""
FLAGS = ("TENURED_FLAGS=--driver emulated --emulated-memory 256MiB --http off --hung-client kill "
         "--lease-ttl 200ms --hung-grace 200ms\n")


def install(root, source, build):
    """The programs with every library that they link, the unit and its user."""
    libraries = root / "opt/tenure"
    card = root / "var/lib/card"
    for made in (libraries, card):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
    card.chmod(0o777)
    for name in ("tenured", "lease_client", "libtenure_emulated_cuda.so"):
        file = build / "bin" / name
        shutil.copy(file, root / "usr/bin")
        linked = subprocess.run(["ldd", file], check=True, capture_output=True, text=True).stdout
        for library in re.findall(r"=> (/\S+)", linked):
            shutil.copy(library, libraries)
    units = root / "etc/systemd/system"
    shutil.copy(source / "deploy/tenured@.service", units)
    (units / "tenured@.service.d").mkdir(exist_ok=True)
    (units / "tenured@.service.d/test.conf").write_text(DROP_IN, encoding="utf-8")
    (units / "client.service").write_text(CLIENT, encoding="utf-8")
    (root / "etc/tenured").mkdir(exist_ok=True)
    (root / "etc/tenured/0.env").write_text(FLAGS, encoding="utf-8")
    shutil.copy(source / "deploy/tenure.sysusers", root / "usr/lib/sysusers.d/tenure.conf")


class Host:
    """The booted container."""

    def __init__(self, root):
        with open(root.parent / "console.log", "wb") as console:
            self.process = subprocess.Popen(
                ["systemd-nspawn", "-q", "-D", root, "-b", "--register=no", "--keep-unit",
                 "--private-network"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
        self.init = None
        await_condition("systemd answers", self._find_init)

    def _find_init(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = children.read_text(encoding="utf-8").split()
        self.init = pids[0] if pids else None
        return self.init and self.run("systemctl", "is-system-running", check=False) in (
            "running", "degraded")

    def run(self, *words, check=True):
        done = subprocess.run(["nsenter", "--target", self.init, "--mount", "--pid", "--uts",
                               "--ipc", "--net", "--cgroup", *words],
                              check=check, capture_output=True, text=True)
        return done.stdout.strip()

    def value(self, unit, name):
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)

    def log(self, *words):
        return self.run("journalctl", "-u", "tenured@0", "-o", "cat", *words)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def await_condition(what, condition):
    end = time.monotonic() + container.SECONDS_TO_BOOT
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise RuntimeError(f"not so after {container.SECONDS_TO_BOOT} s: {what}")


def hang_a_client(host):
    """Starts the client, and stops its process when it has its memory."""
    host.run("systemctl", "restart", "client")
    await_condition("the client holds memory", lambda: "held" in host.run(
        "journalctl", "-u", "client", "-o", "cat", "-n", "1"))
    host.run("systemctl", "kill", "--signal=SIGSTOP", "client")


def check_unit(host):
    host.run("systemctl", "start", "tenured@0")
    container.check("the daemon's user", host.run(
        "stat", "-c", "%U", f"/proc/{host.value('tenured@0', 'MainPID')}"), "tenure")
    await_condition("the daemon says how it is", lambda: host.value(
        "tenured@0", "StatusText").startswith("serving: "))
    hang_a_client(host)
    await_condition("the hung client of another user is killed",
                    lambda: host.value("client", "Result") == "signal")
    await_condition("the log says so", lambda: "was killed" in host.log("-p", "warning"))
    container.check("lines of the log that say so", host.log().count("was killed"), 1)


def check_without_the_capability(root, host):
    drop_in = root / "etc/systemd/system/tenured@.service.d/capability.conf"
    drop_in.write_text("[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n",
                       encoding="utf-8")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "tenured@0")
    hang_a_client(host)
    await_condition("the log says that the client still runs",
                    lambda: "still runs" in host.log("-p", "err"))
    container.check("the client goes on", host.value("client", "ActiveState"), "active")
    container.check("lines of the log that say so", host.log().count("still runs"), 1)


def run(root, source, build):
    container.make_root(root)
    install(root, source, build)
    (root / "etc/systemd/system/tenured@.service.d/capability.conf").unlink(missing_ok=True)
    host = Host(root)
    try:
        check_unit(host)
        check_without_the_capability(root, host)
    finally:
        host.stop()


def main():
    why = container.missing()
    if why:
        print(f"skipped: {why}")
        return
    source, build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    kept = os.environ.get("TENURE_SYSTEMD_ROOT")
    with tempfile.TemporaryDirectory(prefix="tenure-systemd-") as scratch:
        run(pathlib.Path(kept or scratch).resolve() / "root", source, build)


if __name__ == "__main__":
    main()
