"""The flags and the file of tests/openserver: ports, schemes, keys, authorities, names; and its ways in, used wrongly."""

import hashlib
import hmac
import signal
import tempfile
import unittest
from pathlib import Path

from harness import tap
from harness.agency import Agency
from harness.matrix import Client, Refused, quote
from harness.open_servers import program
from harness.postgres import Given
from harness.processes import free_ports, start, stop, wait_until

V3 = "/_matrix/client/v3/"
DUMMY = {"type": "m.login.dummy"}


class Server:
    """One openserver started with just these words."""

    def __init__(self, log, words):
        self.log = log
        with open(log, "ab") as output:
            self.process = start([program(), *words], stdout=output, stderr=output)
        wait_until(lambda: b"ready" in log.read_bytes(), f"openserver {words}", process=self.process)

    def stop(self, number=signal.SIGTERM):
        return stop(self.process, first=number)


class OpenServers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        cls.home = Path(cls.folder.name)
        cls.cluster = Given()
        cls.pki = cls.home / "pki"
        Agency.make_pki_in(cls.pki, "ca")
        Agency.make_pki_in(cls.pki, "server", "open", "--host", "open.example")
        cls.authority = cls.pki / "server-root.pem"
        cls.running = []

    @classmethod
    def tearDownClass(cls):
        cls.cluster.drop_all()
        cls.folder.cleanup()

    def setUp(self):
        self.running = []

    def tearDown(self):
        for server in self.running:
            server.stop()

    def words(self, name, home, **flags):
        """The flags of a server with both APIs on one TLS port."""
        self.cluster.create_database(home)
        given = {
            "server-name": name, "database": self.cluster.conninfo(home), "state-directory": self.home / home,
            "certificate": self.pki / "servers/open.pem", "key": self.pki / "servers/open.key", "ca": self.authority,
            "shared-secret": "words of the suite", **flags,
        }  # fmt: skip
        return [word for flag, value in given.items() if value is not None for word in (f"--{flag}", value)]

    def serve(self, home, words):
        server = Server(self.home / f"{home}.log", words)
        self.running.append(server)
        return server

    def client(self, port, scheme="https"):
        return Client(f"{scheme}://localhost:{port}", self.authority)

    def registered(self, port, person, scheme="https"):
        client = self.client(port, scheme)
        session = client.request("POST", V3 + "register", {"username": person, "password": "pass", "auth": DUMMY})
        client.access_token, client.user_id = session["access_token"], session["user_id"]
        return client

    def refused(self, status, errcode, call, *arguments):
        with self.assertRaises(Refused) as caught:
            call(*arguments)
        self.assertEqual((caught.exception.status, caught.exception.errcode), (status, errcode))

    def test_ways_in(self):
        """m.login.dummy without a prior 401, passwords, the shared secret; wrong ones and repeated ones are refused"""
        port = free_ports(1)[0]
        self.serve("ways", self.words("open.example", "ways", port=port))
        alice = self.registered(port, "alice")
        self.assertEqual(alice.user_id, "@alice:open.example")
        self.assertEqual(alice.get("account/whoami")["user_id"], alice.user_id)
        client = self.client(port)
        again = {"username": "alice", "password": "other", "auth": DUMMY}
        self.refused(400, "M_USER_IN_USE", client.post, "register", again)
        self.assertIn("m.login.password", [flow["type"] for flow in client.get("login")["flows"]])
        for user in ({"identifier": {"type": "m.id.user", "user": "alice"}}, {"user": "@alice:open.example"}):
            body = {"type": "m.login.password", "password": "pass", **user}
            self.assertEqual(client.post("login", body)["user_id"], alice.user_id)
            self.refused(403, "M_FORBIDDEN", client.post, "login", {**body, "password": "Pass"})

        path = "/_synapse/admin/v1/register"
        for admin, word in ((False, "notadmin"), (True, "admin")):
            nonce = client.request("GET", path)["nonce"]
            name = f"by-secret-{word}"
            text = "\0".join([nonce, name, "pass", word]).encode()
            body = {"nonce": nonce, "username": name, "password": "pass", "admin": admin}
            right = hmac.new(b"words of the suite", text, hashlib.sha1).hexdigest()
            wrong = hmac.new(b"other words", text, hashlib.sha1).hexdigest()
            self.assertEqual(
                client.request("POST", path, {**body, "mac": right})["user_id"], f"@{name}:open.example"
            )
            self.refused(403, "M_FORBIDDEN", client.request, "POST", path, {**body, "mac": right})
            fresh = {**body, "username": "x", "nonce": client.request("GET", path)["nonce"]}
            self.refused(403, "M_FORBIDDEN", client.request, "POST", path, {**fresh, "mac": wrong})

    def test_plain_and_two_ports(self):
        """the client API over plain HTTP, the server API over TLS on a port of its own; neither serves the other's"""
        client_port, partner_port = free_ports(2)
        words = self.words("open.example", "plain", port=client_port, **{"federation-port": partner_port})
        self.serve("plain", [*words, "--plain-client"])
        alice = self.registered(client_port, "alice", "http")
        self.refused(404, "M_UNRECOGNIZED", alice.request, "GET", "/_matrix/key/v2/server")
        partner = self.client(partner_port)
        self.assertEqual(partner.request("GET", "/_matrix/key/v2/server")["server_name"], "open.example")
        self.refused(404, "M_UNRECOGNIZED", partner.request, "GET", "/_matrix/client/versions")

        client_port, partner_port = free_ports(2)
        words = self.words("open.example", "two", port=client_port, **{"federation-port": partner_port})
        self.serve("two", words)
        self.registered(client_port, "alice")
        self.assertIn("verify_keys", self.client(partner_port).request("GET", "/_matrix/key/v2/server"))

    def test_file_and_signing_key(self):
        """every setting from one file, flags win; the signing key is the one given; both signals end it with 0"""
        port, other = free_ports(2)
        seed = "A7nFqYk1l0Uo3zJ8pXw5sGZQ2mVb4tRcHdEeLiKxNyS"
        key = self.home / "given.key"
        key.write_text(f"ed25519 suite {seed}\n")
        key.chmod(0o600)
        words = self.words("open.example", "file", port=other, **{"signing-key": key})
        pairs = dict(zip((word[2:] for word in words[::2]), words[1::2]))
        file = self.home / "open.conf"
        file.write_text("[openserver]\n" + "".join(f"{flag}={value}\n" for flag, value in pairs.items()))
        server = self.serve("file", ["--config", file])
        document = self.client(other).request("GET", "/_matrix/key/v2/server")
        self.assertEqual(list(document["verify_keys"]), ["ed25519:suite"])
        self.assertEqual(server.stop(signal.SIGINT), 0)
        server = self.serve("file-again", ["--config", file, "--port", port])
        self.assertEqual(self.client(port).request("GET", "/_matrix/key/v2/server")["verify_keys"],
                         document["verify_keys"])  # fmt: skip
        self.assertEqual(server.stop(signal.SIGTERM), 0)

    def test_names_with_ports(self):
        """two servers named localhost:port federate over TLS with neither table nor list; both sides speak"""
        ports = free_ports(2)
        people = []
        for port, person in zip(ports, ("alice", "bob")):
            home = f"port_{person}"
            self.serve(home, self.words(f"localhost:{port}", home, port=port))
            people.append(self.registered(port, person))
        alice, bob = people
        self.assertEqual(bob.user_id, f"@bob:localhost:{ports[1]}")
        room_id = alice.create_room()
        alice.invite(room_id, bob.user_id)
        bob.wait_invited(room_id)
        bob.join(room_id, [f"localhost:{ports[0]}"])
        bob.wait_event(room_id, alice.send(room_id, "to the other port"))
        alice.wait_event(room_id, bob.send(room_id, "and back"))

    def test_wrong_authority(self):
        """a server whose certificate another authority signed is not believed: no invite goes there"""
        strangers = self.home / "other-pki"
        Agency.make_pki_in(strangers, "ca")
        Agency.make_pki_in(strangers, "server", "open", "--host", "open.example")
        port, other = free_ports(2)
        self.serve("believes", self.words(f"localhost:{port}", "believes", port=port))
        self.serve("stranger", self.words(
            f"localhost:{other}", "stranger", port=other, certificate=strangers / "servers/open.pem",
            key=strangers / "servers/open.key",
        ))  # fmt: skip
        alice = self.registered(port, "alice")
        room_id = alice.create_room()
        with self.assertRaises(Refused):
            alice.invite(room_id, f"@bob:localhost:{other}")
        members = alice.get(f"rooms/{quote(room_id)}/members")["chunk"]
        self.assertEqual([event["state_key"] for event in members], [alice.user_id])


tap.main()
