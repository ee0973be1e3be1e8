"""`make run` and `make demo`, as in the README: from nothing, again on what is kept, after a kill."""

import os
import re
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from harness import tap
from harness.postgres import psql
from harness.processes import ROOT, start, wait_until


class Demo(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-demo-", dir="/tmp")
        os.chmod(cls.folder.name, 0o755)  # PostgreSQL's account passes through it

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def command(self, mode):
        return ["/usr/bin/python3", ROOT / "tests/harness/demo.py", mode]

    def environment(self, **more):
        return {**os.environ, "CHANCERY_DEMO_HOME": self.folder.name, **more}

    def run_until_ready(self, **environment):
        log = Path(self.folder.name) / "output"
        with open(log, "w") as output:
            process = start(self.command("run"), env=self.environment(**environment), stdout=output, stderr=output)
        wait_until(
            lambda: re.search(r"^ready: \d+ messages exchanged, gamma refused$", log.read_text(), re.M),
            "the demonstration does not get ready", timeout_s=300, process=process,
        )  # fmt: skip
        return process, log.read_text()

    def servers(self):
        """Processes that run on our folder."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if entry.name.isdigit() and any(word.startswith(self.folder.name + "/") for word in words[1:]):
                found.append(" ".join(words))
        return found

    def test_1_demo_from_nothing(self):
        """demo: from nothing to messages across, exit 0, the promised last line"""
        began = time.monotonic()
        done = subprocess.run(
            [str(word) for word in self.command("demo")], env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout.splitlines()[-1], r"^demo: [1-9]\d* messages exchanged, gamma refused$")
        print(f"# figure: it took {time.monotonic() - began:.0f} s (aim: under 90)", flush=True)
        self.assertEqual(self.servers(), [])

    def test_2_run_again_and_stop(self):
        """run: finds its data and ports again, tells how to log in; SIGINT and SIGTERM end all that it started, with 0"""
        ports = (Path(self.folder.name) / "demo/ports.json").read_text()
        for number in (signal.SIGINT, signal.SIGTERM):
            process, said = self.run_until_ready()
            self.assertEqual((Path(self.folder.name) / "demo/ports.json").read_text(), ports)
            self.assertIn("pass phrase of every .p12 file: chancery", said)
            self.assertRegex(said, r"chancery login --certificate-listener https://localhost:\d+ ")
            self.assertRegex(said, r"people/anna\.p12")
            process.send_signal(number)
            self.assertEqual(process.wait(60), 0)
            self.assertEqual(self.servers(), [])

    def test_3_leftovers_of_a_kill(self):
        """after kill -9 of the launcher the next run cleans up and serves"""
        process, _ = self.run_until_ready()
        process.kill()
        process.wait()
        process, _ = self.run_until_ready()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 0)
        self.assertEqual(self.servers(), [])

    def test_4_fresh_revocation_lists(self):
        """while it runs its CAs sign lists anew, and the servers go on by the newer one"""
        process, said = self.run_until_ready(CHANCERY_DEMO_CRL_INTERVAL_S="0.5")
        cluster = re.search("^PostgreSQL: private cluster in (.+)$", said, re.M)[1]

        def number(agency):
            """Of the newest list in force there; 40 hexadecimal digits."""
            return psql(f"host={cluster} user=postgres dbname={agency}", "SELECT max(number) FROM crl")

        for agency in ("alpha", "beta"):
            first = number(agency)
            wait_until(lambda: number(agency) > first, f"{agency} gets no newer list", process=process)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 0)


class MissingPackages(unittest.TestCase):
    def test_without_root_and_sudo(self):
        """packages are missing, and nobody may install them: the one command is said, and it ends with 1"""
        words = {"dpkg-query": "exit 1", "id": "echo 1000", "sudo": "exit 1", "apt-get": "echo it was run >&2; exit 9"}
        with tempfile.TemporaryDirectory(prefix="chancery-path-", dir="/tmp") as folder:
            for name, text in words.items():
                program = Path(folder) / name
                program.write_text(f"#!/bin/sh\n{text}\n")
                program.chmod(0o755)
            done = subprocess.run(
                [ROOT / "tests/harness/deps", "run"], env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
        self.assertEqual(done.returncode, 1, done.stdout)
        commands = [line for line in done.stdout.splitlines() if "apt-get" in line]
        self.assertEqual(len(commands), 1, done.stdout)
        self.assertRegex(commands[0], r"apt-get install -y .*\blibmicrohttpd-dev\b.*\bpostgresql-15\b")
        self.assertNotIn("it was run", done.stdout)


tap.main()
