#!/usr/bin/env python3
"""What a real systemd keeps for a daemon: boots one in a container, with fd_store_peer as a service.

systemd_fd_store.py BUILD

Runs the claims of FdStoreTest against it, and three about a unit's restart and stop. Needs root,
debootstrap and systemd-nspawn, and says so where it has not got them. TENURE_SYSTEMD_ROOT names a
folder in which the container's files are made once and stay; otherwise they are made anew.
"""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

SERVICE = """[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=main
Restart=always
RestartSec=0
FileDescriptorStoreMax=64
LimitNOFILE=65536
Environment=TENURE_PEER_MAX=64 LD_LIBRARY_PATH=/opt/peer
ExecStart=/opt/peer/fd_store_peer /var/lib/peer
"""
SECONDS_TO_BOOT = 90


def missing():
    """What stands in the way, in words."""
    if os.geteuid() != 0:
        return "not root"
    for program in ("debootstrap", "systemd-nspawn"):
        if not shutil.which(program):
            return f"no {program} here"
    return None if mirror() else "apt's sources name no mirror"


def mirror():
    """Where this machine gets its packages."""
    folder = pathlib.Path("/etc/apt")
    for file in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        found = file.exists() and re.search(r"^(?:URIs:|deb(?:\s+\[.*?\])?)\s*(\S+)",
                                            file.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found.group(1)
    return None


def make_root(root):
    if (root / "usr/lib/systemd/systemd").exists():
        return
    subprocess.run(["debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus",
                    "bookworm", root, mirror()], check=True, stdout=subprocess.DEVNULL)


def install_peer(root, build):
    """The peer with every library that it links, and its unit."""
    peer = build / "bin/fd_store_peer"
    folder = root / "opt/peer"
    for made in (folder, root / "var/lib/peer"):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
    shutil.copy(peer, folder)
    linked = subprocess.run(["ldd", peer], check=True, capture_output=True, text=True).stdout
    for library in re.findall(r"=> (/\S+)", linked):
        shutil.copy(library, folder)
    units = root / "etc/systemd/system"
    (units / "fd_store_peer.service").write_text(SERVICE, encoding="utf-8")
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    link = wants / "fd_store_peer.service"
    link.unlink(missing_ok=True)
    link.symlink_to("../fd_store_peer.service")


class Peer:
    """One connection to the peer."""

    def __init__(self, folder):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(folder / "peer.sock"))
        (self.pid,) = struct.unpack("3i", self.socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[:1]
        self.answers = self.socket.makefile("r", encoding="utf-8")

    def tell(self, line):
        self.socket.sendall(line.encode() + b"\n")
        return self.answers.readline().rstrip("\n")

    def init(self):
        """The systemd that runs it, as this host numbers it."""
        stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        return int(stat.rpartition(")")[2].split()[1])


def await_peer(folder, other_than=0):
    end = time.monotonic() + SECONDS_TO_BOOT
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            peer = Peer(folder)
            if peer.pid != other_than:
                return peer
        time.sleep(0.02)
    raise RuntimeError(f"no peer serves in {folder} after {SECONDS_TO_BOOT} s")


def check(what, found, wanted):
    print(f"{'ok' if found == wanted else 'FAILED'}: {what}", flush=True)
    if found != wanted:
        raise RuntimeError(f"{what}: {found!r}, not {wanted!r}")


def check_unit_commands(folder):
    """What an operator's systemctl does to the store."""
    peer = await_peer(folder)
    init = peer.init()

    def systemctl(*words):
        subprocess.run(["nsenter", "--target", str(init), "--mount", "--pid", "--uts", "--ipc",
                        "--net", "--cgroup", "systemctl", *words, "fd_store_peer"], check=True)

    check("stored", peer.tell("store a bytes"), "ok")
    systemctl("restart")
    peer = await_peer(folder, peer.pid)
    check("what is stored survives systemctl restart", peer.tell("inherited"), "a=bytes")
    systemctl("stop")
    systemctl("start")
    peer = await_peer(folder, peer.pid)
    check("what is stored does not survive systemctl stop", peer.tell("inherited"), "")
    peer.tell("store a bytes")
    peer.tell("exit 70")
    peer = await_peer(folder, peer.pid)
    check("what is stored survives a failure", peer.tell("inherited"), "a=bytes")
    peer.tell("remove a")


def run(root, build):
    make_root(root)
    install_peer(root, build)
    folder = root / "var/lib/peer"
    with open(root.parent / "console.log", "wb") as console:
        container = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", root, "-b", "--register=no", "--keep-unit",
             "--private-network"],
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
    try:
        await_peer(folder)
        claims = subprocess.run(
            [build / "bin/keeper_test", "--gtest_filter=FdStoreTest.*"], check=False,
            env={**os.environ, "TENURE_PEER_FOLDER": str(folder)})
        check("the claims of FdStoreTest", claims.returncode, 0)
        check_unit_commands(folder)
    finally:
        container.terminate()
        try:
            container.wait(60)
        except subprocess.TimeoutExpired:
            container.kill()


def main():
    why = missing()
    if why:
        print(f"skipped: {why}")
        return
    build = pathlib.Path(sys.argv[1]).resolve()
    kept = os.environ.get("TENURE_SYSTEMD_ROOT")
    with tempfile.TemporaryDirectory(prefix="tenure-systemd-") as scratch:
        run(pathlib.Path(kept or scratch).resolve() / "root", build)


if __name__ == "__main__":
    main()
