"""The program as an administrator meets it: starts, answers, says what is wrong, stops."""

import json
import os
import signal
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

from harness import man_page, tap
from harness.agency import Agency, program
from harness.matrix import Refused
from harness.postgres import Given
from harness.processes import Failed, free_ports


def lone_agency(folder):
    ports = dict(zip(("client", "federation", "certificate"), free_ports(3)))
    agency = Agency("alpha.example", "AA", folder, Given(), ports)
    agency.prepare([])
    return agency


class Program(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        cls.agency = lone_agency(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.agency.stop()
        cls.agency.cluster.drop_all()
        cls.folder.cleanup()

    def tearDown(self):
        self.agency.stop()

    def test_starts_answers_and_stops(self):
        """it starts on an empty database, answers, and SIGTERM and SIGINT end it with 0"""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.agency.start()
            versions = self.agency.anonymous().request("GET", "/_matrix/client/versions")
            self.assertIn("v1.1", versions["versions"])
            self.assertIn("v1.13", versions["versions"])
            began = time.monotonic()
            self.agency.process.send_signal(number)
            self.assertEqual(self.agency.process.wait(20), 0, self.agency.tail())
            self.assertLess(time.monotonic() - began, 10)
            self.agency.process = None

    def test_the_man_page_is_the_help(self):
        """docs/chancery.1 is what --help says; every command and verb has a help of its own"""
        kept = Path("docs/chancery.1").read_text()
        self.assertEqual(
            kept, man_page.page(program()), "python3 tests/harness/man_page.py PROGRAM > docs/chancery.1 makes it again"
        )

    def test_wrong_calls(self):
        """a command that is called wrongly ends with 2 and says how it is called"""
        for words, expected in [
            (["nothing-of-the-kind"], "--help"),
            (["partner", "nothing-of-the-kind"], "chancery partner --help"),
            (["partner", "make"], "usage: chancery partner make --list-id ID"),
            (["partner", "sign", "--p12"], "chancery partner sign: "),
            (["enrol"], "chancery enrol --help"),
            (["login", "--no-such-option"], "chancery login: "),
            (["found", "--config", self.agency.config, "--officer", "x"], "usage: chancery found"),
            (["check-chain", "--config", self.agency.config], "usage: chancery check-chain"),
        ]:
            done = subprocess.run([program(), *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, (words, done.stderr))
            self.assertIn(expected, done.stderr, words)
            self.assertEqual(done.stdout, "", words)

    def test_well_known(self):
        """/.well-known tells clients the base URL, from any page; partners the address, where one is configured"""
        self.agency.start()
        anonymous = self.agency.anonymous()
        found = anonymous.request("GET", "/.well-known/matrix/client")
        self.assertEqual(found, {"m.homeserver": {"base_url": self.agency.url}})
        with self.assertRaises(Refused) as caught:
            anonymous.request("GET", "/.well-known/matrix/server")
        self.assertEqual((caught.exception.status, caught.exception.errcode), (404, "M_NOT_FOUND"))
        for method in ("POST", "PUT", "DELETE"):
            with self.assertRaises(Refused) as caught:
                anonymous.request(method, "/.well-known/matrix/client", {})
            self.assertEqual((caught.exception.status, caught.exception.errcode), (405, "M_UNRECOGNIZED"))
        self.agency.stop()
        self.agency.write_config(server={"federation_address": "192.0.2.7:8448"})
        try:
            self.agency.start()
            answer = urllib.request.urlopen(
                urllib.request.Request(
                    self.agency.url + "/.well-known/matrix/server", headers={"Origin": "https://chat.example"}
                ),
                context=ssl.create_default_context(cafile=str(self.agency.authority)),
                timeout=30,
            )
            self.assertEqual(json.loads(answer.read()), {"m.server": "192.0.2.7:8448"})
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "*")
            self.assertEqual(answer.headers["Content-Type"], "application/json")
        finally:
            self.agency.stop()
            self.agency.write_config()

    def test_health_and_readiness(self):
        """/health and /ready answer 200"""
        self.agency.start()
        client = self.agency.anonymous()
        client.request("GET", "/health")
        client.request("GET", "/ready")

    def test_only_certificates_let_in(self):
        """no password, guest, registration or device-code log-in: refused with a sentence"""
        self.agency.start()
        client = self.agency.anonymous()
        types = {flow["type"] for flow in client.get("login")["flows"]}
        self.assertEqual(types, {"m.login.sso", "m.login.token"})
        for method, path, body in [
            ("POST", "/_matrix/client/v3/login", {"type": "m.login.password", "user": "x", "password": "y"}),
            ("POST", "/_matrix/client/v3/register", {"username": "x", "password": "y"}),
            ("POST", "/_matrix/client/v3/register?kind=guest", {}),
        ]:
            with self.assertRaises(Refused) as caught:
                client.request(method, path, body)
            self.assertEqual((caught.exception.status, caught.exception.errcode), (403, "M_FORBIDDEN"), path)
            self.assertGreater(len(caught.exception.body["error"]), 20)

    def test_unknown_paths(self):
        """what is not built answers 404 M_UNRECOGNIZED, a wrong method 405"""
        self.agency.start()
        client = self.agency.anonymous()
        for method, path, status in [
            ("GET", "/_matrix/client/v3/nothing_of_the_kind", 404),
            ("GET", "/_synapse/admin/v1/register", 404),
            ("GET", "/_matrix/client/r0/login", 404),
            ("DELETE", "/_matrix/client/versions", 405),
        ]:
            with self.assertRaises(Refused) as caught:
                client.request(method, path)
            self.assertEqual((caught.exception.status, caught.exception.errcode), (status, "M_UNRECOGNIZED"))

    def test_the_access_log_keeps_secrets(self):
        """a line a request, without tokens, query values and paths that no route knows"""
        self.agency.start()
        stranger = self.agency.anonymous()
        stranger.access_token = "token-secret"
        for path in ("/_matrix/client/v3/account/whoami?access_token=query-secret", "/path-secret/x"):
            with self.assertRaises(Refused):
                stranger.request("GET", path)
        self.agency.stop()
        log = self.agency.log.read_text()
        self.assertIn("GET /_matrix/client/v3/account/whoami 401", log)
        self.assertIn("GET (no such route) 404", log)
        self.assertNotIn("-secret", log)

    def test_audit_log_is_append_only(self):
        """the database role of the server can append to the audit log, and neither change nor remove a line"""
        self.agency.start()
        self.assertNotIn("may change the audit log", self.agency.tail())
        cluster = self.agency.cluster
        role = cluster.role(self.agency.serving_role)
        for statement in (
            "UPDATE audit SET rule = rule", "DELETE FROM audit", "TRUNCATE audit", "DROP TABLE audit",
            "ALTER TABLE audit DISABLE TRIGGER ALL",
        ):  # fmt: skip
            with self.assertRaisesRegex(Failed, "permission denied|must be owner"):
                cluster.sql(statement, self.agency.short, role)

    def test_configuration_mistakes(self):
        """a mistake in the configuration is named with its cure, and nothing starts"""
        self.agency.write_config(identity={"policy_oid": "2.999.1.1"})
        try:
            with self.assertRaisesRegex(Failed, "did you mean .identity. policy_oids"):
                self.agency.start()
        finally:
            self.agency.write_config()

    def test_help(self):
        """--help names every command, and each command has its own --help"""
        shown = subprocess.run([program(), "--help"], capture_output=True, text=True, check=True).stdout
        for command in ["serve", "migrate", "found", "officer", "enrol", "revoke", "device", "partner", "login",
                        "check-config", "check-chain"]:  # fmt: skip
            self.assertRegex(shown, rf"(?m)^  {command}\b")
            subprocess.run([program(), command, "--help"], stdout=subprocess.DEVNULL, check=True, env={
                **os.environ, "HOME": self.folder.name})  # fmt: skip


tap.main()
