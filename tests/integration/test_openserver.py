"""tests/openserver: the doors that public suites need stand open there, and are walls in chancery."""

import hashlib
import hmac
import signal
import tempfile
import unittest
from pathlib import Path

from harness import tap
from harness.agency import Agency
from harness.matrix import Client, Refused
from harness.open_servers import OpenServer, program
from harness.postgres import Given
from harness.processes import free_ports, start, stop, wait_until


def by_shared_secret(client, name, admin=False, secret="secret"):
    nonce = client.request("GET", "/_synapse/admin/v1/register")["nonce"]
    words = [nonce, name, "secret words", "admin" if admin else "notadmin"]
    mac = hmac.new(secret.encode(), "\0".join(words).encode(), hashlib.sha1).hexdigest()
    body = {"nonce": nonce, "username": name, "password": "secret words", "admin": admin, "mac": mac}
    return client.request("POST", "/_synapse/admin/v1/register", body)


class OpenDoors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        home = Path(cls.folder.name)
        cls.cluster = Given()
        # alpha: one TLS port for both APIs, by flags.  The other: two ports, by a file, its name host:port.
        cls.alpha = OpenServer("alpha.example", home / "alpha", cls.cluster, home / "pki")
        cls.alpha.start([])
        Agency.make_pki_in(home / "pki", "server", "other", "--host", "localhost")
        client_port, cls.federation_port = free_ports(2)
        cls.cluster.create_database("other")
        settings = home / "openserver.conf"
        settings.write_text(
            "[openserver]\n"
            f"server-name = localhost:{cls.federation_port}\ndatabase = {cls.cluster.conninfo('other')}\n"
            f"state-directory = {home}/other-state\ncertificate = {home}/pki/servers/other.pem\n"
            f"key = {home}/pki/servers/other.key\nca = {home}/pki/server-root.pem\nport = {client_port}\n"
            f"federation-port = {cls.federation_port}\nplain-client = true\n"
            f"peers = alpha.example=127.0.0.1:{cls.alpha.port}\n"
        )
        cls.log = home / "other-log"
        with open(cls.log, "wb") as log:
            cls.other = start([program(), "--config", settings], stdout=log, stderr=log, cwd=home)
        wait_until(lambda: b"ready" in cls.log.read_bytes(), "the other does not start", process=cls.other)
        cls.other_url = f"http://127.0.0.1:{client_port}"

    @classmethod
    def tearDownClass(cls):
        statuses = cls.alpha.stop(signal.SIGINT), stop(cls.other, first=signal.SIGTERM)
        tails = cls.alpha.tail() + cls.log.read_text()[-3000:]
        cls.cluster.drop_all()
        cls.folder.cleanup()
        if statuses != (0, 0):
            raise AssertionError(f"ended with {statuses}\n{tails}")

    def client(self):
        return Client(self.alpha.url, self.alpha.authority)

    def test_registration_and_password(self):
        """m.login.dummy without a prior 401, password log-in, a wrong password, a name that is taken"""
        person = self.alpha.register("rosa")
        self.assertEqual(person.user_id, "@rosa:alpha.example")
        login = {
            "type": "m.login.password", "identifier": {"type": "m.id.user", "user": "rosa"},
            "password": "secret words",
        }  # fmt: skip
        self.assertEqual(self.client().post("login", login)["user_id"], person.user_id)
        with self.assertRaises(Refused) as caught:
            self.client().post("login", {**login, "password": "wrong"})
        self.assertEqual((caught.exception.status, caught.exception.errcode), (403, "M_FORBIDDEN"))
        with self.assertRaises(Refused) as caught:
            self.alpha.register("rosa")
        self.assertEqual((caught.exception.status, caught.exception.errcode), (400, "M_USER_IN_USE"))

    def test_shared_secret(self):
        """registration by a shared secret, as load tools know it; with a wrong one 403"""
        made = by_shared_secret(self.client(), "load1", admin=True)
        self.assertEqual(made["user_id"], "@load1:alpha.example")
        self.assertTrue(made["access_token"])
        with self.assertRaises(Refused) as caught:
            by_shared_secret(self.client(), "load2", secret="guess")
        self.assertEqual(caught.exception.status, 403)

    def test_older_paths(self):
        """r0 and unstable paths are served as aliases"""
        person = self.alpha.register("olga")
        for prefix in ("r0", "unstable", "v3"):
            said = person.request("GET", f"/_matrix/client/{prefix}/account/whoami")
            self.assertEqual(said["user_id"], person.user_id)

    def test_federates_with_anybody(self):
        """a room across: names by the table, and names that are host:port"""
        person = self.alpha.register("fritz")
        other = Client(self.other_url, self.alpha.authority)
        session = other.post(
            "register", {"username": "greta", "password": "secret words", "auth": {"type": "m.login.dummy"}}
        )
        other.access_token, other.user_id = session["access_token"], session["user_id"]
        self.assertEqual(other.user_id, f"@greta:localhost:{self.federation_port}")
        room_id = person.create_room(name="Across")
        person.invite(room_id, other.user_id)
        other.wait_invited(room_id)
        other.join(room_id, via=["alpha.example"])
        other.wait_event(room_id, person.send(room_id, "to host:port"))
        person.wait_event(room_id, other.send(room_id, "to a name of the table"))


tap.main()
