"""Officers at their desks: commands over the certificate listener, and what a server or a colleague cannot talk them into."""

import http.client
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

from harness import tap
from harness.agency import Agency, program
from harness.postgres import Given
from harness.processes import Failed, free_ports, run

BAD_KINDS = {
    "wrong-policy": "explicit-policy", "second-policy": "explicit-policy", "no-eku": "extended-key-usage",
    "non-repudiation": "key-usage", "rsa1024": "key-strength", "sha1": "digest-strength", "expired": "expired",
    "future": "not-yet-valid", "foreign-country": "name-constraints",
}  # fmt: skip
API = "/_chancery/officer/v1"


class LyingListener:
    """A server with the agency's own certificate whose drafts say something else than was asked."""

    def __init__(self, agency, statement):
        outer = self
        self.signed = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/drafts"):
                    body = {"statement": statement, "digest": "0" * 64}
                else:
                    outer.signed += 1
                    body = {"state": "proposed", "proposal": "0" * 64}
                body = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            agency.pki / f"servers/{agency.short}.pem", agency.pki / f"servers/{agency.short}.key"
        )
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Officers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        ports = dict(zip(("client", "federation", "certificate"), free_ports(3)))
        cls.agency = Agency("alpha.example", "AA", cls.folder.name, Given(), ports)
        cls.agency.officers = ["adele", "albert"]
        cls.agency.prepare(["adele", "albert", "agnes", "anna", "bruno", "carla", "dora", "emil"])
        cls.agency.make_pki("person", "anna-second-card", "--serial", cls.serial("anna"))
        cls.agency.make_pki("person", "adele-second-card", "--serial", cls.serial("adele"))
        for kind in BAD_KINDS:
            cls.agency.make_pki("person", kind, "--kind", kind)
        cls.agency.make_pki("twin", "anna")
        cls.agency.found()
        cls.agency.start()
        cls.agency.enrol("dora")

    @classmethod
    def tearDownClass(cls):
        status = cls.agency.stop()
        assert status == 0, cls.agency.tail()
        cls.agency.cluster.drop_all()
        cls.folder.cleanup()

    @classmethod
    def serial(cls, person):
        subject = run(["openssl", "x509", "-in", cls.agency.pki / f"people/{person}.pem", "-noout", "-subject"])
        return re.search(r"serialNumber = (\S+)", subject).group(1)

    def file(self, person):
        return self.agency.pki / f"people/{person}.pem"

    def act(self, person, *words):
        return self.agency.chancery(*words, *self.agency.desk(person))

    def refused(self, words, person, *command):
        with self.assertRaisesRegex(Failed, words):
            self.act(person, *command)

    def propose(self, officer, user, person, *more):
        printed = self.act(
            officer, "enrol", "propose", "--user", user, "--certificate", self.file(person), *more
        )
        return re.search(r"^proposed (\w{64})$", printed, re.M).group(1)

    def query(self, sql):
        return self.agency.cluster.sql(sql, self.agency.short)

    # ---- the commands ----

    def test_enrol(self):
        """proposed by one, approved by another, done once; audit lines of each step"""
        user = "@anna:alpha.example"
        number = self.propose("adele", user, "anna", "--ticket", "T-7", "--clearance", "official")
        self.assertIn(f"{number} enrol {user}", self.act("albert", "enrol", "proposals"))
        self.refused("two-persons", "adele", "enrol", "approve", number)
        self.assertNotIn(user, self.agency.enrolments())
        self.assertIn(f"done {number}", self.act("albert", "enrol", "approve", number[:12]))
        self.assertEqual(self.agency.enrolments()[user], ("active", self.agency.fingerprint("anna")))
        self.refused("no open proposal", "albert", "enrol", "approve", number)
        lines = self.query(f"SELECT decision FROM audit WHERE type = 'enrol' AND object = '{number}' ORDER BY seq")
        self.assertEqual(lines.split(), ["proposed", "done"])
        refusals = self.query(f"SELECT rule FROM audit WHERE type = 'officer' AND object = '{number}'")
        self.assertIn("two-persons", refusals)
        # A second certificate, a second account: one account a person.
        self.refused("one account each", "adele", "enrol", "propose", "--user", "@anna2:alpha.example",
                     "--certificate", self.file("anna-second-card"))  # fmt: skip

    def test_person_named_wrongly(self):
        """--person must be whom the certificate names"""
        self.refused("another person", "adele", "enrol", "propose", "--user", "@carla:alpha.example", "--certificate",
                     self.file("carla"), "--person", "PNOAA-1")  # fmt: skip
        self.propose("adele", "@carla:alpha.example", "carla", "--person", self.serial("carla"))

    def test_strangers(self):
        """an official, a twin CA's card and no card are no officers, and change nothing"""
        before = self.query("SELECT count(*) FROM proposal")
        self.refused("rule officer", "bruno", "officer", "list")
        self.refused("rule officer", "bruno", "enrol", "propose", "--user", "@bruno:alpha.example", "--certificate",
                     self.file("bruno"))  # fmt: skip
        self.refused("issuer-listed", "anna-twin", "officer", "list")
        context = ssl.create_default_context(cafile=str(self.agency.authority))
        connection = http.client.HTTPSConnection(
            "localhost", self.agency.ports["certificate"], context=context, timeout=30
        )
        connection.request("GET", f"{API}/officers")
        answer = connection.getresponse()
        self.assertIn(answer.status, (401, 403))
        self.assertNotIn(b"certificate\":", answer.read())
        connection.close()
        self.assertEqual(self.query("SELECT count(*) FROM proposal"), before)

    def test_client_listener_knows_no_officers(self):
        """the officers' API is on the certificate listener alone"""
        context = ssl.create_default_context(cafile=str(self.agency.authority))
        connection = http.client.HTTPSConnection("localhost", self.agency.ports["client"], context=context, timeout=30)
        connection.request("GET", f"{API}/officers")
        self.assertEqual(connection.getresponse().status, 404)
        connection.close()

    def test_own_account(self):
        """an officer enrols nobody with their own person, not even with a second card or by a colleague's half"""
        self.refused("rule self", "adele", "enrol", "propose", "--user", "@adele:alpha.example", "--certificate",
                     self.file("adele-second-card"))  # fmt: skip
        number = self.propose("albert", "@adele:alpha.example", "adele-second-card")
        self.refused("rule self", "adele", "enrol", "approve", number)

    def test_third_officer(self):
        """officers name officers by two signatures, and end an office by one"""
        printed = self.act("adele", "officer", "add", "--certificate", self.file("agnes"), "--ticket", "T-9")
        number = re.search(r"^proposed (\w+)", printed, re.M).group(1)
        self.refused("rule officer", "agnes", "officer", "list")
        self.act("albert", "officer", "approve", number)
        self.assertIn("CN=agnes", self.act("agnes", "officer", "list"))
        self.assertNotIn("PNOAA", self.act("agnes", "officer", "list"))
        self.act("adele", "officer", "remove", self.agency.fingerprint("agnes"), "--reason", "left")
        self.refused("not in office", "agnes", "officer", "list")
        self.refused("Fewer than two", "adele", "officer", "remove", self.agency.fingerprint("albert"))

    def test_suspend_and_reinstate(self):
        """one suspends, two re-instate"""
        user = "@dora:alpha.example"
        self.assertIn("done", self.act("albert", "revoke", "suspend", user, "--reason", "card lost"))
        self.assertEqual(self.agency.enrolments()[user][0], "suspended")
        with self.assertRaisesRegex(Failed, "suspended"):
            self.agency.login("dora", "--user", user)
        printed = self.act("adele", "revoke", "reinstate", user)
        number = re.search(r"^proposed (\w+)", printed, re.M).group(1)
        self.refused("two-persons", "adele", "revoke", "approve", number)
        self.act("albert", "revoke", "approve", number)
        self.assertEqual(self.agency.enrolments()[user][0], "active")

    def test_two_acts_at_once(self):
        """a re-instatement that comes while a revocation is on its way to the disk does not write over it"""
        user = "@emil:alpha.example"
        self.agency.enrol("emil")
        self.act("albert", "revoke", "suspend", user, "--reason", "card lost")
        number = re.search(r"^proposed (\w+)", self.act("adele", "revoke", "reinstate", user), re.M).group(1)
        said = {}

        def act(person, verb, *words):
            try:
                said[verb] = self.act(person, "revoke", verb, *words)
            except Failed as failure:
                said[verb] = str(failure)

        def hold():
            try:
                self.query("BEGIN; SELECT 1 FROM log_head FOR UPDATE; SELECT pg_sleep(60)")
            except Failed:
                pass  # ended from here

        def begin(target, *words):
            thread = threading.Thread(target=target, args=words)
            thread.start()
            threads.append(thread)

        def until(condition):
            deadline = time.monotonic() + 20
            while self.query(f"SELECT count(*) {others} AND {condition}") == "0":
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)

        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        threads = []
        begin(hold)
        until("wait_event = 'PgSleep'")
        begin(act, "adele", "certificate", user, "--reason", "dismissed")
        until("wait_event_type = 'Lock'")
        since = self.query("SELECT clock_timestamp()")
        begin(act, "albert", "approve", number)
        # Who brings it has been looked up, so it is on its way to the lane.
        until(f"query LIKE '%FROM officer%' AND query_start > '{since}'")
        self.query(f"SELECT pg_terminate_backend(pid) {others} AND wait_event = 'PgSleep'")
        for thread in threads:
            thread.join()
        self.assertIn("done", said["certificate"])
        self.assertIn("nothing is bound", said["approve"])
        self.assertNotEqual(self.agency.enrolments().get(user, ("revoked",))[0], "active")

    def test_devices(self):
        """an officer sees an account's devices and ends one"""
        user = "@dora:alpha.example"
        client = self.agency.login("dora", "--user", user, "--device-id", "DESK")
        self.assertIn("DESK", self.act("adele", "device", "list", user))
        self.act("adele", "device", "remove", user, "DESK", "--reason", "stolen")
        self.assertNotIn("DESK", self.act("adele", "device", "list", user))
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                client.get("account/whoami")
            except Exception as error:  # the token is dead
                self.assertIn("M_UNKNOWN_TOKEN", str(error))
                break
        else:
            self.fail("the token of the removed device lives")

    # ---- what a desk does not sign ----

    def test_lying_server(self):
        """a desk signs only what was asked for, whatever the server drafts"""
        number = self.propose("adele", "@bruno:alpha.example", "bruno")
        honest = json.loads(
            self.query(f"SELECT convert_from(statement, 'UTF8') FROM proposal WHERE digest = '\\x{number}'")
        )
        lies = {
            "account": {"user_id": "@mallory:alpha.example"},
            "certificate": {"cert_sha256": "a" * 64},
            "key": {"spki_sha256": "a" * 64},
            "clearance": {"clearance": "secret"},
            "end": {"not_after": honest["not_after"] + 1000},
            "shape": {"extra": 1},
        }
        for name, change in lies.items():
            statement = json.dumps({**honest, **change}, sort_keys=True, separators=(",", ":"))
            lying = LyingListener(self.agency, statement)
            try:
                desk = self.agency.desk("albert")
                desk[1] = lying.url
                with self.subTest(name), self.assertRaises(Failed):
                    self.agency.chancery("enrol", "propose", "--user", "@bruno:alpha.example", "--certificate",
                                         self.file("bruno"), "--ticket", "", *desk)  # fmt: skip
                self.assertEqual(lying.signed, 0)
            finally:
                lying.close()

    def test_usage(self):
        """what is missing is said, with status 2; a wrong pass phrase and a wrong authority with status 1"""
        def status(*words, **variables):
            done = subprocess.run([program(), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                                  cwd=self.folder.name, env={**os.environ, **variables}, check=False)  # fmt: skip
            return done.returncode, done.stderr

        self.assertEqual(status("enrol")[0], 2)
        self.assertEqual(status("enrol", "frobnicate")[0], 2)
        self.assertEqual(status("revoke", "suspend")[0], 2)
        self.assertEqual(status("officer", "list")[0], 1)
        desk = [str(word) for word in self.agency.desk("adele")]
        code, says = status("officer", "list", *desk[:6], CHANCERY_PASSPHRASE="wrong")
        self.assertEqual(code, 1)
        self.assertIn("pass phrase", says)
        self.assertEqual(status("officer", "list", *desk[:6], CHANCERY_PASSPHRASE="chancery")[0], 0)
        wrong = [word.replace("server-root.pem", "root.pem") for word in desk]
        self.assertEqual(status("officer", "list", *wrong)[0], 1)

    # ---- on the server ----

    def test_check_chain(self):
        """check-chain names rule, field and cure of each bad certificate, and passes a good one"""
        def check(person):
            done = subprocess.run([program(), "check-chain", "--config", self.agency.config, self.file(person)],
                                  capture_output=True, text=True, check=False)  # fmt: skip
            return done.returncode, done.stdout

        code, says = check("carla")
        self.assertEqual((code, "the chain holds" in says), (0, True), says)
        for kind, rule in BAD_KINDS.items():
            code, says = check(kind)
            self.assertEqual(code, 1)
            self.assertRegex(says, rf"(?m)^rule\s+{rule}$")
            self.assertRegex(says, r"(?m)^field\s+\w+")
            self.assertRegex(says, r"(?m)^cure\s+\w+")
        code, says = check("anna-twin")
        self.assertRegex(says, r"(?m)^rule\s+issuer-listed$")

    def test_found_once(self):
        """a second founding is refused"""
        with self.assertRaisesRegex(Failed, "founded already"):
            self.agency.chancery("found", "--config", self.agency.config, "--officer", self.file("anna"), "--officer",
                                 self.file("bruno"))  # fmt: skip

    def test_audit(self):
        """chancery audit prints every line once, as JSON, numbers without a gap; the server's role cannot change them"""
        lines = [json.loads(line) for line in self.agency.chancery("audit", "--config", self.agency.config).splitlines()]
        self.assertEqual([line["seq"] for line in lines], list(range(1, len(lines) + 1)))
        self.assertEqual(lines[0]["type"], "founding")
        later = self.agency.chancery("audit", "--config", self.agency.config, "--after", str(len(lines) - 1))
        self.assertGreaterEqual(len(later.splitlines()), 1)
        cluster, role = self.agency.cluster, self.agency.cluster.role(self.agency.serving_role)
        for sql in ("UPDATE audit SET actor = ''", "DELETE FROM audit", "TRUNCATE audit"):
            with self.assertRaisesRegex(Failed, "permission denied"):
                cluster.sql(sql, self.agency.short, role)

    def test_lists(self):
        """an officer brings a list; an older one is refused, the same one is no news"""
        older = self.agency.pki / "older.crl"
        shutil.copy(self.agency.pki / "crl/issuing.crl", older)
        self.agency.make_pki("crl")
        newest = self.agency.pki / "crl/issuing.crl"
        self.act("adele", "revoke", "--crl", newest)
        self.assertIn("in force already", self.act("adele", "revoke", "crl", newest))
        self.refused("crl-number", "adele", "officer", "crl", older)
        self.refused("crl-parse", "adele", "officer", "crl", self.file("anna"))

    @unittest.skipUnless(shutil.which("faketime"), "faketime is not installed")
    def test_clock_set_back(self):
        """a server whose clock was set back two days does not start"""
        done = subprocess.run(["faketime", "-2 days", str(program()), "serve", "--config", self.agency.config],
                              capture_output=True, text=True, timeout=30, check=False)  # fmt: skip
        if "ASan runtime does not come first" in done.stderr:
            self.skipTest("faketime and the address sanitizer do not go together")
        self.assertEqual(done.returncode, 1)
        self.assertIn("set the clock right", done.stderr)


tap.main()
