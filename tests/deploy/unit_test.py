"""What a host gets installed: the unit, the user it runs as, the programs.

unit_test.py SOURCE BUILD [TEST]
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path()
BUILD = pathlib.Path()

# Each keeps libcuda from its device files, its code or its helpers, or the daemon from its clients.
HARMFUL = ("PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock",
           "MemoryDenyWriteExecute", "PrivateTmp", "PrivateNetwork", "PrivateUsers", "ProtectProc",
           "ProcSubset", "DynamicUser")


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=60, check=False)


class UnitTest(unittest.TestCase):
    def setUp(self):
        self.unit = (SOURCE / "deploy/tenured@.service").read_text(encoding="utf-8")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def values(self, key):
        return re.findall(rf"^{key}=(.*)$", self.unit, re.MULTILINE)

    def verify(self, unit):
        file = self.folder / "tenured@.service"
        file.write_text(unit, encoding="utf-8")
        return run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                   self.folder / "tenured@0.service")

    def test_systemd_understands_every_line_of_the_unit(self):
        here = self.unit.replace("/usr/bin/tenured", str(BUILD / "bin/tenured"))
        verified = self.verify(here)
        self.assertEqual((verified.returncode, verified.stderr), (0, ""))
        # The same with a mistake in it, so that the silence above means something.
        self.assertNotEqual(self.verify(here.replace("RestartSec=", "RestartsSec=")).stderr, "")

    def test_the_daemon_knows_the_flags_that_the_unit_gives_it(self):
        (command,) = self.values("ExecStart")
        command = command.replace("%i", "0").replace("$TENURED_FLAGS", "--lease-ttl 30s")
        words = shlex.split(command)
        self.assertEqual(words[0], "/usr/bin/tenured")
        checked = run(BUILD / "bin/tenured", *words[1:], "--check-config")
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_systemd_keeps_as_many_descriptors_as_the_daemon_stores(self):
        said = run(BUILD / "bin/tenured", "--help").stdout
        (told,) = re.findall(r"--fd-store-max (\d+)", self.values("ExecStart")[0])
        self.assertEqual(self.values("FileDescriptorStoreMax"), [told])
        # Only the daemon itself may store, and a unit that is not started again keeps nothing.
        self.assertEqual(self.values("NotifyAccess"), ["main"])
        self.assertIn(self.values("Restart")[0], ("always", "on-failure"))
        # A copy of each comes with every start, beside two descriptors for each session.
        (sessions,) = re.findall(r"--max-sessions .*=(\d+)", said)
        self.assertGreater(int(self.values("LimitNOFILE")[0]), 2 * int(sessions) + int(told))

    def test_the_unit_leaves_the_driver_what_it_needs(self):
        for key in HARMFUL:
            self.assertEqual(self.values(key), [], key)
        for family in ("AF_UNIX", "AF_INET", "AF_INET6"):
            self.assertIn(family, self.values("RestrictAddressFamilies")[0].split())

    def test_the_daemon_may_end_clients_and_nothing_else_that_needs_a_capability(self):
        for key in ("CapabilityBoundingSet", "AmbientCapabilities"):
            self.assertEqual(self.values(key), ["CAP_KILL"], key)

    def test_the_socket_is_for_members_of_the_group_that_is_made_with_the_user(self):
        self.assertEqual(self.values("Group"), ["tenure"])
        self.assertEqual(self.values("RuntimeDirectoryMode"), ["0750"])
        (self.folder / "etc").mkdir()
        made = run("systemd-sysusers", f"--root={self.folder}",
                   "--replace=/usr/lib/sysusers.d/tenure.conf", SOURCE / "deploy/tenure.sysusers")
        self.assertEqual(made.returncode, 0, made.stderr)
        users = (self.folder / "etc/passwd").read_text(encoding="utf-8")
        groups = (self.folder / "etc/group").read_text(encoding="utf-8")
        self.assertRegex(users, rf"(?m)^{self.values('User')[0]}:")
        self.assertRegex(groups, rf"(?m)^{self.values('Group')[0]}:")

    def test_an_installed_daemon_starts_and_its_unit_names_it(self):
        installed = run("cmake", "--install", BUILD, "--strip", "--prefix", self.folder / "usr",
                        "--component", "daemon")
        self.assertEqual(installed.returncode, 0, installed.stderr)
        for program in ("tenured", "tenurectl"):
            said = run(self.folder / "usr/bin" / program, "--version")
            self.assertEqual(said.returncode, 0, said.stderr)
            self.assertTrue(said.stdout.startswith(program + " "), said.stdout)
        unit = (self.folder / "usr/lib/systemd/system/tenured@.service").read_text("utf-8")
        (named,) = re.findall(r"(?m)^ExecStart=(\S+) --device", unit)
        self.assertEqual(named, str(self.folder / "usr/bin/tenured"))
        for program in ("bin/tenured", "bin/tenurectl", "lib/tenure/libtenure_emulated_cuda.so"):
            sections = run("readelf", "--sections", "--wide", self.folder / "usr" / program).stdout
            self.assertIn(".text", sections)
            self.assertNotIn(".symtab", sections, f"{program} is not stripped")
        self.assertTrue((self.folder / "usr/share/doc/tenure/LICENSE").exists())
        # A daemon that is installed alone also has a device to serve on a host without a GPU.
        socket = self.folder / "grpc.sock"
        # The rest of the environment stays, because a sanitizer's options stand in it.
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("TENURE_")}
        environment["TENURE_EMULATED_DIR"] = str(self.folder / "card")
        with subprocess.Popen(
                [named, "--driver", "emulated", "--emulated-memory", "64MiB", "--http", "off",
                 "--socket", str(socket)], stderr=subprocess.PIPE, text=True, env=environment,
                ) as daemon:
            try:
                said = daemon.stderr.readline()
            finally:
                daemon.kill()
        self.assertRegex(said, r"serving .* on " + re.escape(str(socket)))
        self.assertTrue((self.folder / "usr/lib/sysusers.d/tenure.conf").exists())


if __name__ == "__main__":
    SOURCE, BUILD = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
