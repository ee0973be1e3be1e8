"""The shipped program is hardened as the build promises, and holds nothing that only tests need."""

import os
import re
import subprocess
import unittest
from pathlib import Path

from harness import tap

PROGRAM = Path(os.environ["CHANCERY_PROGRAM"])


def readelf(*arguments):
    return subprocess.run(
        ["readelf", "-W", *arguments, PROGRAM], capture_output=True, text=True, check=True
    ).stdout


@unittest.skipIf(os.environ["CHANCERY_VARIANT"] == "asan", "the sanitized build is not the shipped one")
class Hardening(unittest.TestCase):
    def test_position_independent(self):
        """the program is position independent (PIE)"""
        self.assertRegex(readelf("-h"), r"Type:\s+DYN")
        self.assertRegex(readelf("-d"), r"FLAGS_1.*PIE")

    def test_relocations_are_read_only(self):
        """relocations are read-only and bound at start (full RELRO)"""
        self.assertIn("GNU_RELRO", readelf("-l"))
        self.assertRegex(readelf("-d"), r"BIND_NOW|FLAGS_1.*NOW")

    def test_stack_is_not_executable(self):
        """the stack is not executable, and no segment is both writable and executable"""
        segments = readelf("-l")
        self.assertRegex(segments, r"GNU_STACK.* RW +0x")
        self.assertIsNone(re.search(r"LOAD.* RWE ", segments))

    def test_stack_protector_and_fortify(self):
        """stack canaries and fortified library calls are in"""
        symbols = readelf("--dyn-syms")
        self.assertIn("__stack_chk_fail", symbols)
        self.assertRegex(symbols, r"__\w+_chk@")

    def test_holds_nothing_of_the_open_server(self):
        """it holds neither symbols nor words of the ways in that only test suites have"""
        words = subprocess.run(["strings", "-n", "5", PROGRAM], capture_output=True, text=True, check=True).stdout
        for word in ["m.login.dummy", "m.login.password", "/_synapse", "shared_secret", "openserver"]:
            self.assertNotIn(word, words)
        folder = PROGRAM.parent / "tests/openserver"
        if not folder.exists():
            self.skipTest("tests/openserver is not built")

        def defined(*files):
            names = subprocess.run(
                ["nm", "--defined-only", "-f", "posix", *files], capture_output=True, text=True, check=True
            ).stdout
            return set(re.findall(r"^(\w+) T ", names, re.M))

        shared = defined(*PROGRAM.parent.glob("*/admission.o"), *PROGRAM.parent.glob("server/main.o"))
        own = defined(*folder.glob("*.o")) - shared
        self.assertGreater(len(own), 5)
        self.assertEqual(own & defined(PROGRAM), set())

    def test_no_dangerous_libraries(self):
        """it links the libraries of the design and no others"""
        needed = set(re.findall(r"NEEDED.*\[(\S+?)\.so", readelf("-d")))
        known = {
            "libc", "libglib-2.0", "libmicrohttpd", "libgnutls", "libssl", "libcrypto", "libsodium", "libolm",
            "libpq", "libcjson", "libcurl", "libm",
        }  # fmt: skip
        self.assertEqual(needed - known, set())


tap.main()
