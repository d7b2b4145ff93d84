"""Each rule finds what it forbids and lets pass what it allows: tried on small trees."""

import json
import os
import pathlib
import tempfile
import unittest

import agreement
import clocks
import document_commands
import documents
import includes
import layout
import leftovers
import lengths
import tree


class RulesTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.root = pathlib.Path(self._folder.name)

    def write(self, path, text, executable=False):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if executable:
            file.chmod(0o755)

    def faults(self, rule):
        return list(rule(tree.Tree(self.root, self.root / "build")))

    def assert_faults(self, rule, *beginnings):
        found = sorted(self.faults(rule))
        self.assertEqual(len(found), len(beginnings), found)
        for fault, beginning in zip(found, sorted(beginnings)):
            self.assertTrue(fault.startswith(beginning), f"{fault!r}, not {beginning!r}")


class IncludesTest(RulesTest):
    def test_server_and_client_include_common_but_not_each_other(self):
        self.write("server/calls/a.h", '#include "common/x.h"\n#include "tenure/v1/stats.pb.h"\n'
                                       '#include "client/b.h"\n')
        self.write("client/b.h", '#include "tenure/client.h"\n#include "server/a.h"\n')
        self.write("tests/c.cc", '#include "server/a.h"\n#include "client/b.h"\n')
        self.assert_faults(includes.rooms, "server/calls/a.h:3:", "client/b.h:2:")

    def test_a_room_includes_only_the_rooms_named_for_it(self):
        self.write("server/leases/a.cc", '#include "server/memory/b.h"\n'
                                         '#include "server/background/c.h"\n')
        self.write("server/memory/b.h", '#include "server/leases/a.h"\n')
        self.write("server/daemon.cc", '#include "server/background/c.h"\n')
        self.write("server/keeper/d.h", '#include "server/config.h"\n')
        self.write("server/attic/e.h", '#include "server/memory/b.h"\n')
        self.assert_faults(includes.rooms, "server/leases/a.cc:2:", "server/memory/b.h:1:",
                           "server/keeper/d.h:1:")

    def test_the_session_knows_of_the_clients_top_only_its_values(self):
        self.write("client/session/a.cc", '#include "client/options.h"\n'
                                          '#include "client/client.h"\n')
        self.assert_faults(includes.rooms, "client/session/a.cc:2:")

    def test_the_journal_is_the_servers_own(self):
        for room in ("common", "server/leases", "client", "tests"):
            self.write(f"{room}/a.cc", '#include "tenure/journal/v1/journal.pb.h"\n')
        self.assert_faults(includes.rooms, "common/a.cc:1:", "client/a.cc:1:")

    def test_common_includes_nobody_who_includes_it(self):
        self.write("common/a.h", '#include "server/a.h"\n')
        self.write("common/b.h", '#include "b.h"\n')
        self.assert_faults(includes.rooms, "common/a.h:1:", "common/b.h:1:")

    def test_only_the_cuda_room_includes_cuda_headers(self):
        self.write("common/cuda/a.h", "#include <cuda.h>\n")
        self.write("server/a.cc", "#include <cuda.h>\n")
        self.write("client/a.cc", '#include "nvrtc.h"\n')
        self.assert_faults(includes.cuda, "server/a.cc:1:", "client/a.cc:1:")

    def test_the_heap_knows_numbers_only(self):
        self.write("common/heap/a.cc", '#include <mutex>\n#include "common/bytes.h"\n'
                                       '#include "common/cuda/driver.h"\n')
        self.write("common/b.cc", "#include <mutex>\n")
        self.assert_faults(includes.heap, "common/heap/a.cc:1:", "common/heap/a.cc:3:")

    def test_headers_that_do_not_exist_are_named(self):
        self.write("common/a.h", '#include "common/b.h"\n#include "common/version.h"\n')
        self.assert_faults(includes.existing, "common/a.h:1:")

    def test_include_guards_are_the_path(self):
        self.write("common/a.h", "#ifndef COMMON_A_H_\n#define COMMON_A_H_\n#endif\n")
        self.write("client/include/tenure/b.h",
                   "#ifndef TENURE_B_H_\n#define TENURE_B_H_\n#endif\n")
        self.write("common/c.h", "#pragma once\n")
        self.assert_faults(includes.guards, "common/c.h:1:")

    def test_circles_are_found(self):
        self.write("common/a.h", '#include "common/b.h"\n')
        self.write("common/b.h", '#include "common/c.h"\n')
        self.write("common/c.h", '#include "common/b.h"\n')
        self.assert_faults(includes.circles, "common/c.h:1:")

    def test_a_circle_may_lead_through_sources(self):
        for one, other in (("a", "b"), ("b", "a")):
            self.write(f"common/{one}.h", "")
            self.write(f"common/{one}.cc",
                       f'#include "common/{one}.h"\n#include "common/{other}.h"\n')
        self.assert_faults(includes.circles, "common/b.cc:2:")

    def test_header_source_and_internal_header_are_one_unit(self):
        self.write("common/a.h", '#include "common/b.h"\n')
        self.write("common/a.cc", '#include "common/a.h"\n#include "common/a_internal.h"\n')
        self.write("common/a_internal.h", '#include "common/a.h"\n')
        self.write("common/a_part.cc", '#include "common/a.h"\n#include "common/a_internal.h"\n')
        self.write("common/b.h", "")
        self.write("common/b.cc", '#include "common/b.h"\n')
        self.assert_faults(includes.circles)

    def test_rooms_below_are_found_by_way_of_others(self):
        below = includes.rooms_below("server/leases")
        self.assertIn("server/journal", below)
        self.assertIn("common/heap", below)
        self.assertNotIn("server/background", below)
        self.assertIn("server/calls", includes.rooms_below("server"))


class LengthsTest(RulesTest):
    def lengths_of(self, text):
        return [(line, length) for line, length, _ in lengths.functions(text)]

    def test_functions_are_found_in_namespaces_classes_and_behind_initialisers(self):
        for text, found in (
                ("namespace a {\nint f() {\n  if (x) {\n  }\n}\n}\n", [(2, 4)]),
                ("class A {\n public:\n  int g() const { return 1; }\n};\n", [(2, 2)]),
                ("A::A(int b)\n    : b_{b}, c_(1) {\n  d();\n}\n", [(1, 4)]),
                ("auto f() -> std::string {\n}\n", [(1, 2)]),
                ("TEST(A, B) {\n  auto l = [] {\n  };\n}\n", [(1, 4)]),
                ("int f() {\n  return 1'000;\n}\nint g() {\n}\n", [(1, 3), (4, 2)])):
            self.assertEqual(self.lengths_of(text), found, text)

    def test_data_comments_and_strings_are_no_functions(self):
        for text in ("const int kA[] = {f(1), 2};\n// g() {\nconst char* s = \"h() {\";\n",
                     "#define M(x) \\\n  { x; \n"):
            self.assertEqual(self.lengths_of(text), [], text)

    def test_long_functions_and_files_are_named(self):
        self.write("common/long.cc", "int f() {\n" + "  g();\n" * lengths.FUNCTION_LIMIT + "}\n")
        self.write("common/right.cc",
                   "int f() {\n" + "  g();\n" * (lengths.FUNCTION_LIMIT - 2) + "}\n")
        self.write("tests/long.py", "def f():\n" + "    g()\n" * lengths.FUNCTION_LIMIT)
        self.assert_faults(lengths.cpp_functions, "common/long.cc:1:")
        self.assert_faults(lengths.python_functions, "tests/long.py:1:")
        self.write("common/header.h", "\n" * (lengths.HEADER_LIMIT + 1))
        self.write("common/file.cc", "\n" * (lengths.FILE_LIMIT + 1))
        self.write("common/source.cc", "\n" * lengths.FILE_LIMIT)
        self.assert_faults(lengths.files, "common/header.h:301:", "common/file.cc:501:")


class LeftoversTest(RulesTest):
    def test_what_is_undone_or_switched_off_is_found(self):
        self.write("common/a.cc", "// TO" "DO: later\n#if 0\n#endif\n")
        self.write("tests/a_test.cc", "TEST(A, DISABLE" "D_B) {}\nGTEST_SKI" "P();\n"
                                      "  GTEST_SKIP() << \"no GPU\";\n")
        self.assert_faults(leftovers.forbidden, "common/a.cc:1:", "common/a.cc:2:",
                           "tests/a_test.cc:1:", "tests/a_test.cc:2:")

    def test_paths_of_a_machine_and_registries_are_found(self):
        self.write("README.md", "cd /wor" "k/main\n")
        self.write("deploy/a.sh", "pip --index py" "pi.org\n")
        self.assert_faults(leftovers.forbidden, "README.md:1:", "deploy/a.sh:1:")

    def test_a_test_that_sleeps_says_why(self):
        self.write("tests/a_test.cc", "  sleep(1);\n\n  // Time is the point.\n  sleep(1);\n")
        self.write("tests/support/wait.cc", "  absl::SleepFor(pause);\n")
        self.assert_faults(leftovers.sleeps, "tests/a_test.cc:1:")


class ClocksTest(RulesTest):
    def test_the_wall_clock_is_found_in_the_rooms_of_daemon_and_client(self):
        self.write("server/a.cc", "absl::Now();\nmu_.AwaitWithTimeout(c, t);\n"
                                  "// unlike AwaitWithTimeout(c, t)\nsystem_clock::now();\n")
        self.write("client/a.h", "absl::Time end;  // wall clock: a date that people read\n"
                                 "bool WaitForNotificationWithDeadline(x);\n")
        self.write("tests/a_test.cc", "absl::Now();\n")
        self.assert_faults(clocks.waits, "server/a.cc:1:", "server/a.cc:2:", "server/a.cc:4:",
                           "client/a.h:2:")


class LayoutTest(RulesTest):
    def test_the_top_level_is_closed(self):
        self.write("server/a.cc", "")
        self.write("notes.txt", "")
        self.write("build/x", "")
        self.assert_faults(layout.top_level, "notes.txt:")

    def test_the_server_has_nine_rooms_and_a_small_top(self):
        for room in layout.SERVER_ROOMS[1:]:
            self.write(f"server/{room}/a.cc", "")
        self.write("server/attic/a.cc", "")
        for number in range(12):
            self.write(f"server/{number}.cc", "")
        for number in range(25):
            self.write(f"client/{number}.cc", "")
        self.assert_faults(layout.rooms, "client:1: 25 files", "server/attic:1: is no room",
                           "server/background:1: is missing")

    def test_names_that_differ_by_a_letter_are_found(self):
        for name in ("segment_commands.cc", "segments_command.cc", "lease.h", "lease.cc", "leash.h",
                     "ps_command.cc", "ls_command.cc", "device.h", "device_memory.h"):
            self.write(f"server/{name}", "")
        self.write("client/leases.h", "")
        self.assert_faults(layout.names, "server/lease.cc:1:", "server/segment_commands.cc:1:")

    def test_a_header_begins_with_what_it_is(self):
        self.write("common/a.h", "// What it is.\n#ifndef A\n")
        self.write("common/b.h", "#ifndef B\n// Too late.\n")
        self.assert_faults(layout.headings, "common/b.h:1:")

    def test_scripts_are_executable_and_stop_at_errors(self):
        self.write("deploy/a.sh", "#!/usr/bin/env bash\nset -euo pipefail\n", executable=True)
        self.write("deploy/b.sh", "#!/usr/bin/env bash\nset -euo pipefail\n")
        self.write("deploy/c.sh", "#!/usr/bin/env bash\n", executable=True)
        self.write("deploy/d.txt", "\n", executable=True)
        self.assert_faults(layout.scripts, "deploy/b.sh:1:", "deploy/c.sh:1:", "deploy/d.txt:1:")

    def test_sources_that_nobody_compiles_are_found(self):
        self.write("server/a.cc", "")
        self.write("server/b.cc", "")
        file = os.path.realpath(self.root / "server/a.cc")
        self.write("build/compile_commands.json", json.dumps([{"directory": "/", "file": file}]))
        self.assert_faults(layout.built, "server/b.cc:1:")


class DocumentsTest(RulesTest):
    def program(self, name, text):
        self.write(f"build/bin/{name}", f"#!/bin/sh\n{text}\n", executable=True)

    def test_links_and_paths_lead_somewhere(self):
        self.write("README.md", "[a](deploy/a.md) [b](deploy/b.md#x)\n"
                                "`server/a.h` `server/*.h` `client/`\n`server/b.h`\n")
        self.write("deploy/b.md", "[up](../README.md) `prose/about.h`\n")
        self.write("server/a.h", "")
        self.assert_faults(documents.links, "README.md:1: there is no deploy/a.md")
        self.assert_faults(documents.paths, "README.md:3: there is no server/b.h")

    def test_files_without_a_path_lie_near_the_document(self):
        self.write("server/leases/lease.h", "")
        self.write("client/client.h", "")
        self.write("server/README.md", "`lease.h` `leases/lease.h` `client/client.h` `cuda.h`\n"
                                       "`client.h`\n`leases/fence.h`\n")
        self.write("README.md", "`lease.h` `a.b()` `x.h y.h`\n`gone.sh`\n")
        self.assert_faults(documents.files, "server/README.md:2: there is no client.h",
                           "server/README.md:3: there is no leases/fence.h",
                           "README.md:2: there is no gone.sh")

    def test_flags_and_subcommands_are_those_of_the_programs(self):
        self.program("tenured", "echo '--socket TEXT'")
        self.program("tenurectl", 'case "$1" in status) echo --json;; --help) echo --socket;;'
                                  " *) exit 2;; esac")
        self.write("README.md", "```console\n$ tenured --socket x --sock y\noutput --of it\n```\n"
                                "```sh\nA=b tenurectl status --json --socket x | cat\n"
                                "tenurectl fly\n```\n"
                                "`tenurectl status --yaml` `--socket` `--neither`\n")
        self.assert_faults(documents.flags, "README.md:1: tenured has no --sock",
                           "README.md:5: tenurectl has no 'fly'",
                           "README.md:9: tenurectl has no --yaml")
        self.assert_faults(documents.bare_flags, "README.md:9: no program has --neither")

    def test_quoted_code_is_compiled_somewhere(self):
        self.write("client/examples/a.cc", "int main() {\n  f();\n}\n")
        self.write("README.md", "```cpp\n  f();\n```\n```cpp\n  g();\n```\n")
        self.assert_faults(documents.examples, "README.md:4:")


class AgreementTest(RulesTest):
    _TABLE = ("constexpr Row kTable[] = {\n    {S::kActive, E::kKeepAlive, S::kActive},\n"
              "    {S::kActive, E::kClosed, S::kEnded},\n};\n"
              'case S::kActive:\n  return "ACTIVE";\ncase S::kEnded:\n  return "ENDED";\n'
              'case E::kKeepAlive:\n  return "keep-alive";\ncase E::kClosed:\n'
              '  return "closed";\n')

    def diagram(self, *lines):
        text = "\n".join(("```mermaid", "stateDiagram-v2", "    [*] --> ACTIVE", *lines, "```", ""))
        self.write("server/README.md", text)

    def test_the_diagram_has_every_row_of_the_table_and_no_other(self):
        self.write("server/leases/lease.cc", self._TABLE)
        self.assert_faults(agreement.lease_states, "server/README.md:1: no document draws")
        self.diagram("    ACTIVE --> ACTIVE : keep-alive", "    ACTIVE --> ENDED : closed")
        self.assert_faults(agreement.lease_states)
        self.diagram("    ACTIVE --> ENDED : closed", "    ENDED --> ACTIVE : closed")
        self.assert_faults(
            agreement.lease_states,
            "server/README.md:1: ACTIVE --> ACTIVE : keep-alive is not drawn",
            "server/README.md:1: ENDED --> ACTIVE : closed is not in the table")

    def test_limits_stand_in_the_comments_of_their_fields(self):
        self.write("common/limits.h", "constexpr size_t kMaxBatch = 1024;\n"
                                      "constexpr size_t kMaxMessageBytes = size_t{4} << 20;\n"
                                      "constexpr size_t kMaxShoes = 2;\n")
        self.write(
            "proto/tenure/v1/allocator.proto",
            "// At most 5 MiB.\nsyntax = \"proto3\";\n"
            "message AllocateBatchRequest {\n  // At most 1024.\n  repeated A requests = 1;\n}\n"
            "message FreeBatchRequest {\n  repeated A requests = 1;  // At most 1024.\n}\n"
            "message ReleaseRegionsRequest {\n  message Inner {\n    uint32 a = 1;\n  }\n"
            "  // At most 10240.\n  repeated uint64 region_ids = 2;\n}\n")
        self.assert_faults(agreement.limits, "common/limits.h:1: kMaxBatch is 1024",
                           "common/limits.h:2: kMaxMessageBytes is 4 MiB",
                           "common/limits.h:3: kMaxShoes: say in")

    def test_programs_of_a_room_link_what_is_below_it(self):
        self.write("server/memory/CMakeLists.txt",
                   "tenure_room(tenure_memory\n  a.cc\n  LINK tenure_identity tenure_leases)\n")
        self.write("tests/server/memory/CMakeLists.txt",
                   "tenure_server_test(memory a_test.cc)\n"
                   "tenure_server_test(memory b_test.cc LINK tenure_calls tenure_journal_proto)\n")
        self.write("tests/server/keeper/CMakeLists.txt", "tenure_server_test(identity a.cc)\n")
        self.write("tests/client/session/CMakeLists.txt",
                   "tenure_client_test(client_session_test a.cc LINK tenure_session)\n"
                   "tenure_client_test(client_session_test a.cc LINK tenure_client)\n")
        self.assert_faults(
            agreement.links,
            "server/memory/CMakeLists.txt:1: server/memory may not link server/leases",
            "tests/server/memory/CMakeLists.txt:2: server/memory may not link server/calls",
            "tests/server/keeper/CMakeLists.txt:1: server/keeper may not link server/identity",
            "tests/server/keeper/CMakeLists.txt:1: the tests of server/keeper link that room",
            "tests/client/session/CMakeLists.txt:2: client/session may not link client",
            "tests/client/session/CMakeLists.txt:2: the tests of client/session link that room")

    def test_the_table_of_rooms_has_the_arrows_that_includes_allow(self):
        rows = "".join(f"| `{room}` | what it does | "
                       + ", ".join(f"`{other.removeprefix('server/')}`"
                                   for other in sorted(includes.allowed(f"server/{room}"))
                                   if other not in ("common", "common/cuda")) + " |\n"
                       for room in layout.SERVER_ROOMS)
        rows = rows.replace("`proto/journal`", "`proto/tenure/journal`")
        rows = rows.replace("`proto`", "`proto/tenure/v1`")
        self.write("server/README.md", rows)
        self.assert_faults(agreement.rooms)
        self.write("server/README.md", rows.replace("| `identity` | what it does |  |",
                                                    "| `identity` | what it does | `leases` |")
                   .replace("`journal`, ", ""))
        self.assert_faults(agreement.rooms, "server/README.md:3: identity may not use leases",
                           "server/README.md:6: leases may also use journal")

    def test_the_table_of_tests_names_tests_that_exist(self):
        self.write("tests/a_test.cc", "TEST_F(ATest, Works) {}\n")
        self.write("tests/README.md",
                   "| a | `x` | `y` |\n\n| subject | file | case |\n|---|---|---|\n"
                   "| a | `tests/a_test.cc` | `ATest.Works` |\n"
                   "| b | `tests/a_test.cc` | `ATest.Sleeps` |\n"
                   "| c | `tests/b_test.cc` | `ATest.Works` |\n")
        self.assert_faults(agreement.tests, "tests/README.md:6: tests/a_test.cc has no case",
                           "tests/README.md:7: there is no tests/b_test.cc")


class DocumentCommandsTest(RulesTest):
    def run_document(self, text):
        self.write("README.md", text)
        return document_commands.run(tree.Tree(self.root), pathlib.Path("README.md"))

    def test_blocks_run_in_order_in_one_shell(self):
        self.assertEqual(self.run_document(
            "```sh\nword=kept\ncd /\n```\n```cpp\nfalse\n```\n"
            "```console\n$ test \"$word\" = kept\n$ test \\\n    \"$PWD\" = /\n"
            "output\n```\n"), [])

    def test_a_command_that_fails_is_named_by_its_block(self):
        faults = self.run_document("```sh\ntrue\n```\n\n```sh\nfalse | true\n```\n"
                                   "```sh\ntouch never\n```\n")
        self.assertEqual(len(faults), 1, faults)
        self.assertTrue(faults[0].startswith("README.md:5: "), faults)
        self.assertFalse((self.root / "never").exists())

    def test_a_failure_that_the_shell_overlooks_is_found(self):
        faults = self.run_document("```sh\nfalse && true\nif true && true; then true; fi\n```\n")
        self.assertEqual(len(faults), 1, faults)
        self.assertTrue(faults[0].startswith("README.md:2: && hides"), faults)

    def test_what_is_left_running_is_a_fault_and_is_ended(self):
        faults = self.run_document("```sh\nsetsid sleep 1000 & disown\necho $! >pid\n```\n")
        self.assertEqual(len(faults), 1, faults)
        self.assertIn("left running: sleep 1000", faults[0])
        self.assertFalse(os.path.exists(f"/proc/{(self.root / 'pid').read_text().strip()}"))

    def test_commands_that_cannot_run_are_left_out(self):
        self.assertEqual(self.run_document("```console\n$ sudo systemctl enable --now tenured@0\n"
                                           "```\n"), [])

    def test_every_exception_is_used_and_covered(self):
        self.write("README.md", "```console\n$ one\n$ two --flag\n```\n")
        rows = (document_commands.Exempt("one", "reason", "A.Test"),
                document_commands.Exempt("two.*", "reason", "B.Test"),
                document_commands.Exempt("three", "reason", "tests/run.sh"))
        self.write(".ci/run", 'section "tests" tests/run.sh\n')
        faults = document_commands.check_exempt(tree.Tree(self.root), rows, {"A.Test"})
        self.assertEqual(len(faults), 2, faults)
        self.assertIn("'two.*': there is no test B.Test", faults[0])
        self.assertIn("'three': no document has this command", faults[1])


if __name__ == "__main__":
    unittest.main()
