"""The ways in and out, on a running server: certificates, browsers, challenges, sessions, and their ends."""

import base64
import contextlib
import hashlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

from harness import tap
from harness.agency import Agency
from harness.matrix import Parked, Refused
from harness.postgres import Given
from harness.processes import Failed, free_ports, run, start

PEOPLE = ["anna", "arno", "ella", "emil", "erna"]
BOUND_S = 5
PAGE = "http://127.0.0.1:12345/landed"


class Desk:
    """Requests to the certificate listener as @person, by Python's own TLS."""

    def __init__(self, agency, certificate, authority=None):
        context = ssl.create_default_context(cafile=str(authority or agency.authority))
        if certificate:
            context.load_cert_chain(certificate)
        self.connection = http.client.HTTPSConnection(
            "localhost", agency.ports["certificate"], context=context, timeout=30
        )

    def request(self, method, path, body=None, headers=None):
        """(status, headers, text)"""
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()

    def post(self, path, body):
        status, _, text = self.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return status, json.loads(text)

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Terminal:
    """One TLS connection by `openssl s_client`, which tells the exporter value: a second opinion on ours."""

    def __init__(self, agency, full, port=None):
        self.process = start(
            ["openssl", "s_client", "-connect", f"localhost:{port or agency.ports['certificate']}", "-tls1_3",
             "-cert", full, "-key", full, "-CAfile", agency.authority, "-ign_eof",
             "-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.exporter = None
        while self.exporter is None:
            line = self.process.stdout.readline()
            if not line:
                raise Failed("openssl s_client ended")
            found = re.match(rb"\s*Keying material: ([0-9A-F]{64})", line)
            if found:
                self.exporter = bytes.fromhex(found.group(1).decode())

    def post(self, path, body):
        """(status, JSON)"""
        text = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        self.process.stdin.write(head.encode() + f"content-length: {len(text)}\r\n\r\n".encode() + text)
        self.process.stdin.flush()
        out, status, length = self.process.stdout, None, 0
        while status is None:
            line = out.readline()
            if not line:
                raise Failed("the connection was closed")
            found = re.search(rb"HTTP/1.1 (\d+)", line)
            status = int(found.group(1)) if found else None
        while line.strip():
            line = out.readline()
            found = re.match(rb"content-length: (\d+)", line, re.I)
            length = int(found.group(1)) if found else length
        return status, json.loads(out.read(length))

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class EvilProxy:
    """Has a certificate that the person's client trusts, and an enrolled card of its own; relays challenge and answer,
    and says to the person what they expect to hear."""

    def __init__(self, agency, full):
        self.agency, self.full = agency, full
        self.relayed, self.statuses = 0, []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(
            agency.pki / f"servers/{agency.short}.pem", agency.pki / f"servers/{agency.short}.key"
        )
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        try:
            plain, _ = self.socket.accept()
        except OSError:
            return
        with self.context.wrap_socket(plain, server_side=True) as victim, Desk(self.agency, self.full) as desk:
            stream = victim.makefile("rwb")
            while True:
                first = stream.readline()
                if not first:
                    return
                length = 0
                while (line := stream.readline().strip()) != b"":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                path, body = first.split()[1].decode(), stream.read(length)
                status, _, text = desk.request("POST", path, body, {"Content-Type": "application/json"})
                self.statuses.append(status)
                if path.endswith("/login"):
                    self.relayed += 1
                text = text.replace("@arno:", "@anna:").encode()
                stream.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
                stream.flush()

    def close(self):
        self.socket.close()
        self.thread.join(10)


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Login(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        ports = dict(zip(("client", "federation", "certificate"), free_ports(3)))
        cls.agency = Agency("alpha.example", "AA", cls.folder.name, Given(), ports)
        cls.agency.officers = ["adele", "albert"]
        cls.agency.limited = False
        cls.agency.prepare([*cls.agency.officers, *PEOPLE, "nemo"])
        cls.agency.write_config(identity={"redirect_urls": "http://127.0.0.1/landed https://chat.alpha.example/"})
        cls.agency.make_pki("twin", "anna")
        cls.agency.make_pki("foreign", "anna")
        cls.agency.make_pki("person", "late", "--kind", "expired")
        cls.agency.found()
        cls.agency.start()
        for person in PEOPLE:
            cls.agency.enrol(person)

    @classmethod
    def tearDownClass(cls):
        status = cls.agency.stop()
        tail = cls.agency.tail()
        cls.agency.cluster.drop_all()
        cls.folder.cleanup()
        if status != 0:
            raise Failed(f"the server ended with {status}:\n{tail}")

    # ---- steps ----

    def full(self, person):
        return self.agency.pki / f"people/{person}-full.pem"

    def refused(self, status, errcode, call, *arguments, **options):
        with self.assertRaises(Refused) as caught:
            call(*arguments, **options)
        self.assertEqual((caught.exception.status, caught.exception.errcode), (status, errcode), caught.exception)
        self.assertTrue(caught.exception.body["error"])
        return caught.exception.body

    def client(self, session):
        client = self.agency.anonymous()
        client.access_token, client.user_id = session["access_token"], session["user_id"]
        client.device_id = session["device_id"]
        return client

    def login_token(self, person, page=PAGE):
        """As a browser gets one: redirect, certificate, redirect."""
        location = self.redirect(page)
        with Desk(self.agency, self.full(person)) as desk:
            status, headers, text = desk.request("GET", urllib.parse.urlsplit(location)._replace(scheme="", netloc="").geturl())
        self.assertEqual(status, 302, text)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(headers["Location"]).query))
        return query["loginToken"]

    def redirect(self, page):
        connection = http.client.HTTPSConnection(
            "localhost", self.agency.ports["client"],
            context=ssl.create_default_context(cafile=str(self.agency.authority)),
        )  # fmt: skip
        connection.request("GET", "/_matrix/client/v3/login/sso/redirect?" + urllib.parse.urlencode({"redirectUrl": page}))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 302:
            raise Refused(answer.status, json.loads(body))
        return answer.getheader("Location")

    def log_in_by_browser(self, person, **wish):
        token = self.login_token(person)
        return self.agency.anonymous().post("login", {"type": "m.login.token", "token": token, **wish})

    def content(self, challenge, exporter, device_id="TERM", **changed):
        return {
            "nonce": challenge["nonce"], "server_name": challenge["server_name"], "purpose": challenge["purpose"],
            "user_id": challenge["user_id"], "device_id": device_id, "tls_exporter": base64url(exporter), **changed,
        }  # fmt: skip

    def signed(self, person, content):
        """Body of an answer, signed by openssl, which knows nothing of our code."""
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        signature = subprocess.run(
            ["openssl", "cms", "-sign", "-binary", "-outform", "DER", "-signer", str(self.full(person)),
             "-certfile", str(self.agency.pki / "issuing.pem")],
            input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True,
        ).stdout  # fmt: skip
        return {"content": text, "signature": base64.b64encode(signature).decode()}

    # ---- in ----

    def test_flows(self):
        """GET /login lists the certificate's ways alone"""
        flows = self.agency.anonymous().get("login")["flows"]
        self.assertEqual([flow["type"] for flow in flows], ["m.login.sso", "m.login.token"])

    def test_ways_that_do_not_exist(self):
        """password, registration, guests, login tokens for others, codes: M_FORBIDDEN with a sentence"""
        client = self.agency.anonymous()
        v3, v1 = "/_matrix/client/v3/", "/_matrix/client/v1/"
        with self.leaving_nothing():
            for method, path, body in [
                ("POST", v3 + "login", {"type": "m.login.password", "user": "anna", "password": "x"}),
                ("POST", v3 + "login", {"type": "m.login.dummy"}),
                ("POST", v3 + "login", {"type": "m.login.application_service", "user": "anna"}),
                ("POST", v3 + "login", {"type": "m.login.token", "token": "guess"}),
                ("POST", v3 + "register", {}), ("POST", v3 + "register", {"auth": {"type": "m.login.dummy"}}),
                ("POST", v3 + "register?kind=guest", {}), ("GET", v3 + "register/available?username=x", None),
                ("POST", v3 + "register/email/requestToken", {}),
                ("POST", v3 + "account/password", {"new_password": "x"}),
                ("POST", v1 + "login/get_token", {}),
                ("POST", "/_matrix/client/unstable/org.matrix.msc4108/rendezvous", None),
            ]:  # fmt: skip
                self.refused(403, "M_FORBIDDEN", client.request, method, path, body)
            self.refused(400, "M_BAD_JSON", client.post, "login", {})
            self.refused(404, "M_UNRECOGNIZED", client.request, "GET", v1 + "auth_metadata")

    def test_terminal(self):
        """chancery login makes a device with keys of its own; whoami and devices show it"""
        account = self.agency.home / "olm-account"
        client = self.agency.login("anna", "--device-id", "LAPTOP", "--device-name", "My laptop", "--account", account)
        self.assertEqual(
            client.get("account/whoami"), {"user_id": "@anna:alpha.example", "device_id": "LAPTOP", "is_guest": False}
        )
        device = client.get("devices/LAPTOP")
        self.assertEqual((device["device_id"], device["display_name"]), ("LAPTOP", "My laptop"))
        self.assertLess(abs(device["last_seen_ts"] / 1000 - time.time()), 60)
        self.assertEqual(account.stat().st_mode & 0o777, 0o600)
        keys = client.post("keys/query", {"device_keys": {"@anna:alpha.example": []}})
        self.assertIn("LAPTOP", keys["device_keys"]["@anna:alpha.example"])
        client.put("devices/LAPTOP", {"display_name": "Old laptop"})
        self.assertEqual(client.get("devices/LAPTOP")["display_name"], "Old laptop")
        self.refused(404, "M_NOT_FOUND", client.get, "devices/NOSUCH")
        # Its keys are bound: the same device id with other keys is refused.
        with self.assertRaises(Failed) as caught:
            self.agency.login("anna", "--device-id", "LAPTOP", "--account", self.agency.home / "another")
        self.assertIn("other keys", str(caught.exception))

    def test_terminal_is_careful(self):
        """chancery login signs for nobody else, writes over nothing, and checks the server's certificate"""
        target = self.agency.home / "tokens.json"
        desk = self.agency.desk("anna")
        self.agency.chancery("login", "--output", target, *desk)
        self.assertEqual(target.stat().st_mode & 0o777, 0o600)
        session = json.loads(target.read_text())
        self.assertEqual(self.client(session).get("account/whoami")["user_id"], "@anna:alpha.example")
        for arguments in (
            ["--output", target, *desk],
            ["--print", "--user", "@arno:alpha.example", *desk],
            desk,
            ["--print", *desk, "--authority", self.agency.pki / "root.pem"],
        ):
            with self.assertRaises(Failed):
                self.agency.chancery("login", *arguments)

    def test_browser(self):
        """/login/sso/redirect, the certificate, and back with a login token that is good once"""
        token = self.login_token("anna")
        session = self.agency.anonymous().post(
            "login",
            {"type": "m.login.token", "token": token, "initial_device_display_name": "Browser", "refresh_token": True},
        )
        self.assertEqual(session["user_id"], "@anna:alpha.example")
        self.assertEqual(session["expires_in_ms"], 5 * 60 * 1000)
        client = self.client(session)
        self.assertEqual(client.get("account/whoami")["device_id"], session["device_id"])
        self.refused(403, "M_FORBIDDEN", self.agency.anonymous().post, "login", {"type": "m.login.token", "token": token})
        # The first use stands.
        client.get("account/whoami")

    def test_redirects(self):
        """the log-in returns to listed addresses alone, at both listeners"""
        for page in [
            "http://127.0.0.1/landed", "http://127.0.0.1:1/landed", "https://chat.alpha.example/",
            "https://chat.alpha.example/#/room/!x",
        ]:  # fmt: skip
            self.assertIn("/_chancery/v1/login/sso", self.redirect(page))
        for page in [
            "https://evil.example/", "https://chat.alpha.example/other", "https://chat.alpha.example",
            "http://chat.alpha.example/", "http://127.0.0.1.evil.example/landed", "http://127.0.0.1:80@evil.example/landed",
            "javascript:alert(1)", "io.element.android:/", "https://chat.alpha.example/\r\nX: y", "//evil.example/",
        ]:  # fmt: skip
            self.refused(403, "M_FORBIDDEN", self.redirect, page)
            with Desk(self.agency, self.full("anna")) as desk:
                status, headers, text = desk.request(
                    "GET", "/_chancery/v1/login/sso?" + urllib.parse.urlencode({"redirectUrl": page})
                )
                self.assertEqual(status, 403, page)
                self.assertNotIn("Location", headers)
                self.assertNotIn("evil", text)
        location = None
        with Desk(self.agency, self.full("anna")) as desk:
            page = "https://chat.alpha.example/#/room/!x"
            _, headers, _ = desk.request("GET", "/_chancery/v1/login/sso?" + urllib.parse.urlencode({"redirectUrl": page}))
            location = headers["Location"]
        self.assertRegex(location, r"^https://chat\.alpha\.example/\?loginToken=[\w-]+#/room/!x$")

    def test_pages(self):
        """pages load, frame and remember nothing, and escape what they show"""
        with Desk(self.agency, self.full("anna")) as desk:
            for path in ("/_chancery/v1/login/sso", "/_chancery/v1/uia/sso?session=%3Cscript%3E"):
                _, headers, text = desk.request("GET", path)
                self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
                self.assertIn("frame-ancestors 'none'", headers["Content-Security-Policy"])
                self.assertEqual(headers["Cache-Control"], "no-store")
                self.assertNotIn("<script>", text)

    def test_wrong_certificates(self):
        """a twin, a foreign, an expired and an unknown certificate log nobody in; nor does none"""
        with self.leaving_nothing():
            for person, status in [("anna-twin", 403), ("anna-foreign", 403), ("late", 403), ("nemo", 403)]:
                with Desk(self.agency, self.full(person)) as desk:
                    answer = desk.request("GET", "/_chancery/v1/login/sso?" + urllib.parse.urlencode({"redirectUrl": PAGE}))
                    self.assertEqual(answer[0], status, f"{person}: {answer}")
                    self.assertNotIn("Location", answer[1])
                    found = desk.post("/_chancery/v1/challenge", {"purpose": "login"})
                    self.assertEqual((found[0], found[1]["errcode"]), (403, "M_FORBIDDEN"), person)
            with Desk(self.agency, None) as desk:
                status, headers, _ = desk.request("GET", "/_chancery/v1/login/sso?" + urllib.parse.urlencode({"redirectUrl": PAGE}))
                self.assertNotEqual(status, 200)
                self.assertNotIn("Location", headers)

    def test_log_ins_leave_lines(self):
        """each log-in, accepted or refused, is a line of the audit log; no line holds a token"""
        session = self.log_in_by_browser("anna")
        token = self.login_token("anna")
        for person in ("anna-twin", "late", "nemo"):
            with Desk(self.agency, self.full(person)) as desk:
                desk.post("/_chancery/v1/challenge", {"purpose": "login"})
        with self.assertRaises(Refused):
            self.agency.anonymous().post("login", {"type": "m.login.password", "user": "anna", "password": "x"})
        with self.assertRaises(Refused):
            self.agency.anonymous().post("login", {"type": "m.login.token", "token": token + "x"})
        lines = self.query("SELECT decision || ' ' || rule FROM audit WHERE type = 'login'").splitlines()
        self.assertIn("accepted", [line.strip() for line in lines])
        for rule in ("not-enrolled", "expired", "login-type", "login-token-form"):
            self.assertIn(f"refused {rule}", lines)
        self.assertEqual(
            self.query(
                "SELECT count(*) FROM audit WHERE type = 'login' AND decision = 'accepted' AND object = "
                f"'{session['device_id']}' AND subject = '@anna:alpha.example'"
            ),
            "1",
        )
        for secret in (session["access_token"], token):
            found = f"SELECT count(*) FROM audit a WHERE strpos(a::text, '{secret}') > 0"
            self.assertEqual(self.query(found), "0")

    def query(self, sql):
        return run(["psql", self.agency.cluster.conninfo(self.agency.short), "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql]).strip()

    def rows(self):
        """What a log-in leaves in the database."""
        return set(
            self.query(
                "SELECT 'account ' || user_id FROM account UNION ALL SELECT 'device ' || user_id || device_id FROM device"
                " UNION ALL SELECT 'session ' || session_id FROM session UNION ALL SELECT 'token ' || encode(token_hash, 'hex') FROM token"
                " UNION ALL SELECT 'login token ' || encode(token_hash, 'hex') FROM login_token"
                " UNION ALL SELECT 'proof ' || uia_id || completed_ms FROM uia"
            ).splitlines()
        )

    @contextlib.contextmanager
    def leaving_nothing(self):
        """The refused tries inside leave their lines in the audit log, and nothing else."""
        before = self.rows()
        yield
        self.assertLessEqual(self.rows(), before)

    def test_evil_proxy(self):
        """a proxy with a good certificate of its own between person and server gets nothing from chancery login"""
        with self.leaving_nothing():
            proxy = EvilProxy(self.agency, self.full("arno"))
            try:
                desk = self.agency.desk("anna")
                desk[1] = f"https://localhost:{proxy.port}"
                with self.assertRaises(Failed) as caught:
                    self.agency.chancery("login", "--print", "--user", "@anna:alpha.example", *desk)
                self.assertIn("403", str(caught.exception))
                # The person did sign; what was signed was worth nothing on the proxy's connection.
                self.assertEqual(proxy.relayed, 1)
                self.assertEqual(proxy.statuses, [200, 403])
            finally:
                proxy.close()

    # ---- challenges ----

    def test_challenge(self):
        """a challenge signed by openssl on its own connection opens once; a replay is refused"""
        terminal = Terminal(self.agency, self.full("anna"))
        try:
            status, challenge = terminal.post("/_chancery/v1/challenge", {"purpose": "login"})
            self.assertEqual(status, 200, challenge)
            self.assertEqual((challenge["user_id"], challenge["server_name"]), ("@anna:alpha.example", "alpha.example"))
            answer = self.signed("anna", self.content(challenge, terminal.exporter))
            status, session = terminal.post("/_chancery/v1/login", answer)
            self.assertEqual(status, 200, session)
            self.assertEqual(self.client(session).get("account/whoami")["device_id"], "TERM")
            with self.leaving_nothing():
                status, refusal = terminal.post("/_chancery/v1/login", answer)
                self.assertEqual((status, refusal["errcode"]), (403, "M_FORBIDDEN"))
        finally:
            terminal.close()

    def test_challenge_answered_wrongly(self):
        """each wrong answer is refused and burns the nonce: server, purpose, person, signer, connection, bytes"""
        with self.leaving_nothing():
            terminal = Terminal(self.agency, self.full("anna"))
            other = Terminal(self.agency, self.full("anna"))
            try:
                wrongs = {
                    "server": lambda c: self.signed("anna", self.content(c, terminal.exporter, server_name="beta.example")),
                    "purpose": lambda c: self.signed("anna", self.content(c, terminal.exporter, purpose="uia")),
                    "person": lambda c: self.signed("anna", self.content(c, terminal.exporter, user_id="@arno:alpha.example")),
                    "signer": lambda c: self.signed("arno", self.content(c, terminal.exporter)),
                    "signer for themselves": lambda c: self.signed(
                        "arno", self.content(c, terminal.exporter, user_id="@arno:alpha.example")
                    ),
                    "twin": lambda c: self.signed("anna-twin", self.content(c, terminal.exporter)),
                    "another connection": lambda c: self.signed("anna", self.content(c, other.exporter)),
                    "no exporter": lambda c: self.signed("anna", self.content(c, bytes(32))),
                    "changed after signing": lambda c: {
                        **self.signed("anna", self.content(c, terminal.exporter)),
                        "content": json.dumps(self.content(c, terminal.exporter, device_id="EVIL"), sort_keys=True),
                    },
                    "no signature": lambda c: {**self.signed("anna", self.content(c, terminal.exporter)), "signature": "AAAA"},
                }
                for name, wrong in wrongs.items():
                    _, challenge = terminal.post("/_chancery/v1/challenge", {"purpose": "login"})
                    status, refusal = terminal.post("/_chancery/v1/login", wrong(challenge))
                    self.assertEqual((status, refusal.get("errcode")), (403, "M_FORBIDDEN"), f"{name}: {refusal}")
                    right = self.signed("anna", self.content(challenge, terminal.exporter))
                    status, refusal = terminal.post("/_chancery/v1/login", right)
                    self.assertEqual(status, 403, f"{name}: the nonce was not burnt")
                # Relayed: signed for one connection, presented on the other; then on neither.
                _, challenge = terminal.post("/_chancery/v1/challenge", {"purpose": "login"})
                stolen = self.signed("anna", self.content(challenge, terminal.exporter))
                self.assertEqual(other.post("/_chancery/v1/login", stolen)[0], 403)
                self.assertEqual(terminal.post("/_chancery/v1/login", stolen)[0], 403)
            finally:
                terminal.close()
                other.close()

    # ---- sessions ----

    def test_refresh(self):
        """pairs rotate; a lost answer is forgiven; a stolen refresh token ends the family"""
        session = self.log_in_by_browser("arno", refresh_token=True)
        client = self.client(session)
        client.get("account/whoami")
        anonymous = self.agency.anonymous()
        lost = anonymous.post("refresh", {"refresh_token": session["refresh_token"]})
        pair = anonymous.post("refresh", {"refresh_token": session["refresh_token"]})
        self.assertNotEqual(lost["access_token"], pair["access_token"])
        self.assertEqual(pair["expires_in_ms"], 5 * 60 * 1000)
        client.get("account/whoami")
        fresh = self.client({**session, **pair})
        fresh.get("account/whoami")
        body = self.refused(401, "M_UNKNOWN_TOKEN", client.get, "account/whoami")
        self.assertTrue(body["soft_logout"])
        body = self.refused(401, "M_UNKNOWN_TOKEN", anonymous.post, "refresh", {"refresh_token": session["refresh_token"]})
        self.assertFalse(body["soft_logout"])
        body = self.refused(401, "M_UNKNOWN_TOKEN", fresh.get, "account/whoami")
        self.assertFalse(body["soft_logout"])
        self.refused(401, "M_UNKNOWN_TOKEN", anonymous.post, "refresh", {"refresh_token": pair["refresh_token"]})

    def test_bad_tokens(self):
        """no token, a guessed one, one in the query: 401 with the specification's codes"""
        client = self.agency.anonymous()
        self.refused(401, "M_MISSING_TOKEN", client.get, "account/whoami")
        session = self.log_in_by_browser("arno")
        self.refused(401, "M_MISSING_TOKEN", client.get, "account/whoami", access_token=session["access_token"])
        for token in ("guess", session["access_token"][:-1], session["access_token"] + "A", "x" * 5000):
            client.access_token = token
            body = self.refused(401, "M_UNKNOWN_TOKEN", client.get, "account/whoami")
            self.assertFalse(body["soft_logout"])

    def test_logout(self):
        """logout ends one device and cuts its open sync; logout/all ends every one"""
        one, two = (self.client(self.log_in_by_browser("arno")) for _ in range(2))
        ended = self.park(one)
        two_more = self.client({"access_token": one.access_token, "user_id": one.user_id, "device_id": one.device_id})
        self.assertEqual(two_more.post("logout", {}), {})
        self.assertLess(ended(), BOUND_S)
        self.refused(401, "M_UNKNOWN_TOKEN", two_more.get, "account/whoami")
        two.get("account/whoami")
        three = self.client(self.log_in_by_browser("arno"))
        self.assertEqual(three.post("logout/all", {}), {})
        for client in (two, three):
            self.refused(401, "M_UNKNOWN_TOKEN", client.get, "account/whoami")

    def park(self, client):
        """A sync that waits; a function that tells how long after now it took to be answered with 401."""
        client.sync()
        parked = Parked(client)
        began = time.monotonic()
        took = parked.pool.submit(lambda: [parked.waiting.exception(60), time.monotonic() - began][1])

        def ended():
            with self.assertRaises(Refused) as caught:
                parked.result()
            self.assertEqual((caught.exception.status, caught.exception.errcode), (401, "M_UNKNOWN_TOKEN"))
            self.assertFalse(caught.exception.body["soft_logout"])
            return took.result()

        return ended

    def test_suspension(self):
        """a suspended person's tokens die and open syncs are cut within 5 s; log-in says M_USER_LOCKED"""
        client = self.client(self.log_in_by_browser("ella", refresh_token=True))
        other = self.client(self.log_in_by_browser("anna"))
        ended = self.park(client)
        self.agency.officer(0, "revoke", "suspend", "@ella:alpha.example", "--reason", "lost card")
        took = ended()
        print(f"# figure: suspension: open sync cut and tokens dead {took * 1000:.0f} ms after the officer's command began")
        self.assertLess(took, BOUND_S)
        body = self.refused(401, "M_UNKNOWN_TOKEN", client.get, "account/whoami")
        self.assertFalse(body["soft_logout"])
        other.get("account/whoami")
        with Desk(self.agency, self.full("ella")) as desk:
            status, refusal = desk.post("/_chancery/v1/challenge", {"purpose": "login"})
            self.assertEqual((status, refusal["errcode"]), (403, "M_USER_LOCKED"))

    def test_crl(self):
        """a certificate on an imported CRL: the same bound"""
        client = self.client(self.log_in_by_browser("emil", refresh_token=True))
        ended = self.park(client)
        self.agency.make_pki("revoke", "emil")
        began = time.monotonic()
        took = ended()
        print(f"# figure: CRL: open sync cut and tokens dead {took * 1000:.0f} ms after the CA signed (watched folder included)")
        self.assertLess(time.monotonic() - began, 30)
        self.refused(401, "M_UNKNOWN_TOKEN", client.get, "account/whoami")
        with Desk(self.agency, self.full("emil")) as desk:
            status, refusal = desk.post("/_chancery/v1/challenge", {"purpose": "login"})
            self.assertEqual((status, refusal["errcode"]), (403, "M_FORBIDDEN"))

    # ---- interactive ----

    def uia(self, client, body, path="delete_devices"):
        with self.assertRaises(Refused) as caught:
            client.post(path, body)
        self.assertEqual(caught.exception.status, 401, caught.exception)
        return caught.exception.body

    def test_interactive_by_browser(self):
        """removing a device asks a browser's session for m.login.sso: a page, a button, the certificate"""
        client = self.client(self.log_in_by_browser("arno"))
        doomed = self.client(self.log_in_by_browser("arno"))
        wish = {"devices": [doomed.device_id]}
        asked = self.uia(client, wish)
        self.assertEqual(asked["flows"], [{"stages": ["m.login.sso"]}])
        session = asked["session"]
        again = self.uia(client, {**wish, "auth": {"session": session}})
        self.assertEqual((again["session"], again["errcode"]), (session, "M_FORBIDDEN"))
        path = f"/_chancery/v1/uia/sso?session={session}"
        origin = {"Origin": self.agency.certificate_url}
        with Desk(self.agency, self.full("arno")) as desk:
            status, _, text = desk.request("GET", path)
            self.assertEqual(status, 200)
            self.assertIn("@arno:alpha.example", text)
            self.assertIn("delete_devices", text)
            # To look is not to confirm; nor does another site's form.
            self.uia(client, {**wish, "auth": {"session": session}})
            self.assertEqual(desk.request("POST", path, "", {"Origin": "https://evil.example"})[0], 403)
            self.assertEqual(desk.request("POST", path, "")[0], 403)
            self.uia(client, {**wish, "auth": {"session": session}})
        with Desk(self.agency, self.full("anna")) as desk:
            self.assertEqual(desk.request("POST", path, "", origin)[0], 403)
        with Desk(self.agency, self.full("arno")) as desk:
            status, headers, text = desk.request("POST", path, "", origin)
            self.assertEqual(status, 200, text)
            self.assertIn("onAuthDone", text)
            script = re.search("<script>(.*)</script>", text).group(1)
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            self.assertIn(f"'sha256-{digest}'", headers["Content-Security-Policy"])
            self.assertEqual(desk.request("POST", path, "", origin)[0], 403)
        # It is good for what was asked, not for another device; and once.
        self.uia(client, {"devices": [client.device_id], "auth": {"session": session}})
        self.assertEqual(client.post("delete_devices", {**wish, "auth": {"session": session}}), {})
        self.refused(401, "M_UNKNOWN_TOKEN", doomed.get, "account/whoami")
        self.uia(client, {**wish, "auth": {"session": session}})
        # Nobody else's client can use it.
        other = self.client(self.log_in_by_browser("anna"))
        self.uia(other, {**wish, "auth": {"session": session}})

    def test_interactive_fallback(self):
        """the fallback page of the client listener leads to the certificate listener"""
        connection = http.client.HTTPSConnection(
            "localhost", self.agency.ports["client"],
            context=ssl.create_default_context(cafile=str(self.agency.authority)),
        )  # fmt: skip
        connection.request("GET", "/_matrix/client/v3/auth/m.login.sso/fallback/web?session=a%26b")
        answer = connection.getresponse()
        answer.read()
        self.assertEqual(answer.status, 302)
        self.assertEqual(answer.getheader("Location"), f"{self.agency.certificate_url}/_chancery/v1/uia/sso?session=a%26b")
        connection.request("GET", "/_matrix/client/v3/auth/m.login.password/fallback/web?session=x")
        answer = connection.getresponse()
        answer.read()
        self.assertEqual(answer.status, 404)
        connection.close()

    def test_interactive_by_challenge(self):
        """a session made by a challenge confirms by another"""
        terminal = Terminal(self.agency, self.full("erna"))
        try:
            _, challenge = terminal.post("/_chancery/v1/challenge", {"purpose": "login"})
            _, session = terminal.post(
                "/_chancery/v1/login", self.signed("erna", self.content(challenge, terminal.exporter, "ONE"))
            )
            client = self.client(session)
            doomed = self.client(self.log_in_by_browser("erna", device_id="TWO"))
            wish = {"devices": ["TWO"]}
            asked = self.uia(client, wish)
            self.assertEqual(asked["flows"], [{"stages": ["chancery.certificate_challenge"]}])
            _, challenge = terminal.post("/_chancery/v1/challenge", {"purpose": "uia"})
            answer = self.signed("erna", self.content(challenge, terminal.exporter, "ONE", uia_session=asked["session"]))
            self.assertEqual(terminal.post("/_chancery/v1/uia", answer), (200, {}))
            self.assertEqual(client.post("delete_devices", {**wish, "auth": {"session": asked["session"]}}), {})
            self.refused(401, "M_UNKNOWN_TOKEN", doomed.get, "account/whoami")
        finally:
            terminal.close()

    def test_first_things(self):
        """what clients ask first: capabilities, protocols, relays"""
        client = self.client(self.log_in_by_browser("anna"))
        capabilities = client.get("capabilities")["capabilities"]
        self.assertEqual(capabilities["m.room_versions"]["default"], "12")
        self.assertEqual(set(capabilities["m.room_versions"]["available"].values()), {"stable"})
        self.assertLessEqual({str(version) for version in range(1, 13)},
                             set(capabilities["m.room_versions"]["available"]))
        self.assertFalse(capabilities["m.change_password"]["enabled"])
        self.assertEqual(client.get("thirdparty/protocols"), {})
        self.assertEqual(client.get("voip/turnServer"), {})

    def test_rows_by_hand(self):
        """rows written into the database by hand make no account, no session and no device that can log in"""
        session = self.log_in_by_browser("anna")
        conninfo = self.agency.cluster.conninfo(self.agency.short)
        guess = "cha_" + base64url(bytes(48))
        digest = hashlib.sha256(guess.encode()).hexdigest()
        run([
            "psql", conninfo, "-q", "-v", "ON_ERROR_STOP=1", "-c",
            "INSERT INTO device VALUES ('@eve:alpha.example', 'EVE', '', 0, 0, '', '');"
            "INSERT INTO session SELECT '@eve:alpha.example', 'EVE', 'AAAAAAAAAAAAAAAAAAAAAA', kind, client, scope, "
            "certificate, proof_ms, expires_ms, newest_generation, used_generation, mac FROM session LIMIT 1;"
            f"INSERT INTO token SELECT 'AAAAAAAAAAAAAAAAAAAAAA', decode('{digest}', 'hex'), kind, generation, expires_ms, "
            "mac FROM token LIMIT 1;"
            "INSERT INTO account VALUES ('@nemo:alpha.example', 0);"
            "INSERT INTO enrolment SELECT '@nemo:alpha.example', sha256(e.digest), e.statement, e.signature_first, "
            f"e.signature_second, decode('{self.digest('nemo')}', 'hex'), 'x', 'y', e.issuer_key, '00', e.not_after_ms, "
            "e.approved_ms, 1, e.changed_ms, e.mac FROM enrolment e WHERE e.user_id = '@anna:alpha.example'",
        ])  # fmt: skip
        self.assertEqual(self.client(session).get("account/whoami")["user_id"], "@anna:alpha.example")
        client = self.agency.anonymous()
        client.access_token = guess
        self.refused(401, "M_UNKNOWN_TOKEN", client.get, "account/whoami")
        with Desk(self.agency, self.full("nemo")) as desk:
            status, refusal = desk.post("/_chancery/v1/challenge", {"purpose": "login"})
            self.assertEqual((status, refusal["errcode"]), (403, "M_FORBIDDEN"), refusal)

    def digest(self, person):
        pem = (self.agency.pki / f"people/{person}.pem").read_text()
        leaf = ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END CERTIFICATE-----") + 25])
        return hashlib.sha256(leaf).hexdigest()


if __name__ == "__main__":
    tap.main()
