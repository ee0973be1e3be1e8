"""Real clients drive both agencies: matrix-js-sdk after a browser's log-in, matrix-nio after a terminal's."""

import json
import os
import subprocess
import tempfile
import unittest
import urllib.parse
from pathlib import Path

from harness import browser, tap
from harness.matrix import Refused
from harness.pair import test_pair
from harness.processes import ROOT, Failed

NODE = ROOT / "var/node/node_modules"


class RealClients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        cls.pair = test_pair(cls.folder.name)
        cls.pair.start()
        # The servers of both countries, for clients that talk to both.
        cls.authorities = Path(cls.folder.name) / "authorities.pem"
        cls.authorities.write_text("".join(agency.authority.read_text() for agency in cls.pair.agencies))

    @classmethod
    def tearDownClass(cls):
        cls.pair.end()
        cls.folder.cleanup()

    def drive(self, command, agencies):
        """Run a client program; its TAP is shown, and must be all ok."""
        done = subprocess.run(
            [str(word) for word in command],
            input=json.dumps(agencies), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(self.authorities), "CHANCERY_NODE_MODULES": str(NODE)},
            check=False,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            print(f"#   {line}", flush=True)
        if done.returncode != 0:
            for agency in self.pair.agencies:
                print("#   | " + f"{agency.name}: {agency.tail(4000)}".replace("\n", "\n#   | "), flush=True)
        self.assertEqual(done.returncode, 0, "the client failed, see above")
        self.assertNotIn("\nnot ok", done.stdout)

    def log_in_by_browser(self, agency, person):
        """The browser's way: /login/sso/redirect, the certificate, and back with a login token."""
        landing = browser.Landing()
        try:
            url = f"{agency.url}/_matrix/client/v3/login/sso/redirect?" + urllib.parse.urlencode(
                {"redirectUrl": landing.url}
            )
            with browser.Browser(
                agency.authority, agency.p12(person), sites=[agency.certificate_url], issuer_name=agency.issuer_name
            ) as chromium:
                query = chromium.visit(url, landing)
            self.assertIn("loginToken", query)
            return query["loginToken"]
        finally:
            landing.close()

    @unittest.skipIf(browser.why_not(), browser.why_not())
    def test_1_browser(self):
        """Chromium with a national certificate logs in; the token opens once, a browser without a card sees help"""
        token = self.log_in_by_browser(self.pair.alpha, "anna")
        client = self.pair.alpha.anonymous()
        session = client.post("login", {"type": "m.login.token", "token": token})
        self.assertEqual(session["user_id"], "@anna:alpha.example")
        with self.assertRaises(Refused) as caught:
            client.post("login", {"type": "m.login.token", "token": token})
        self.assertEqual((caught.exception.status, caught.exception.errcode), (403, "M_FORBIDDEN"))
        with browser.Browser(self.pair.alpha.authority) as chromium:
            page = chromium.visit(self.pair.alpha.certificate_url + "/")
        self.assertRegex(page.lower(), "certificate|card")

    @unittest.skipIf(browser.why_not(), browser.why_not())
    def test_2_foreign_card(self):
        """a card of another country's CA does not get past the certificate listener"""
        landing = browser.Landing()
        alpha, beta = self.pair.agencies
        url = f"{alpha.url}/_matrix/client/v3/login/sso/redirect?" + urllib.parse.urlencode(
            {"redirectUrl": landing.url}
        )
        try:
            with browser.Browser(
                alpha.authority, beta.p12("berta"), sites=[alpha.certificate_url], issuer_name=beta.issuer_name
            ) as chromium, self.assertRaises(Failed):
                chromium.visit(url, landing, timeout_s=5)
        finally:
            landing.close()

    def test_3_matrix_js_sdk(self):
        """matrix-js-sdk: in by the browser's token, create, invite across, join, send both ways, encrypted too, leave"""
        agencies = {}
        for agency, person in zip(self.pair.agencies, ("anna", "berta")):
            if browser.why_not():
                client = agency.login(person)
                agencies[agency.short] = {
                    "url": agency.url, "access_token": client.access_token, "user_id": client.user_id,
                    "device_id": client.device_id,
                }  # fmt: skip
            else:
                token = self.log_in_by_browser(agency, person)
                agencies[agency.short] = {
                    "url": agency.url, "login": {"type": "m.login.token", "token": token},
                }  # fmt: skip
        self.drive([NODE / ".bin/node", ROOT / "tests/clients/js_sdk.mjs"], agencies)

    def test_4_matrix_nio(self):
        """matrix-nio: in by `chancery login`, create, invite across, join, send both ways, leave"""
        agencies = {}
        for agency, person in zip(self.pair.agencies, ("arno", "bruno")):
            client = agency.login(person)
            agencies[agency.short] = {
                "url": agency.url, "access_token": client.access_token, "user_id": client.user_id,
                "device_id": client.device_id,
            }  # fmt: skip
        self.drive(
            [ROOT / "var/venv/bin/python3", ROOT / "tests/clients/nio_clients.py", self.authorities], agencies
        )

    def test_5_stranger(self):
        """gamma.example, on nobody's list, tries every way in: none accepted, and nobody connects to it"""
        self.pair.exchange()
        gamma = self.pair.besiege()
        self.assertGreater(gamma.tried, 100)
        self.assertEqual(gamma.accepted, [])
        self.assertEqual(gamma.visits, 0)


tap.main()
