"""gamma.example: a server that is on nobody's list, and tries every way in.

It has a national PKI, a server certificate and a signing key of its own, all sound by its own lights.
It listens as well, and counts who connects: an unlisted name must cause no connection.
"""

import http.client
import socket
import ssl
import threading
from pathlib import Path

from .processes import Failed
from .signing import SigningKey, canonical

ROOM = "!MjbIWgmz9X9DZbmEGqW8zrvU4zNPzcyYyfrFDx8VbNk"
EVENT = "$kq2VnuEMtbqxmhMrNzLkTzmRVr3CWKnBY8nM0hxsa8I"

# Method, target, whether it has a body: the whole server-server API, with {self} and {peer} filled in.
FEDERATION = [
    ("GET", f"/_matrix/federation/v1/backfill/{ROOM}?v={EVENT}&limit=10", False),
    ("POST", f"/_matrix/federation/v1/get_missing_events/{ROOM}", True),
    ("GET", "/_matrix/federation/v1/media/download/abc", False),
    ("GET", "/_matrix/federation/v1/media/thumbnail/abc?width=10&height=10", False),
    ("GET", "/_matrix/federation/v1/user/devices/@anna:{peer}", False),
    ("POST", "/_matrix/federation/v1/user/keys/claim", True),
    ("POST", "/_matrix/federation/v1/user/keys/query", True),
    ("PUT", f"/_matrix/federation/v1/invite/{ROOM}/{EVENT}", True),
    ("PUT", f"/_matrix/federation/v2/invite/{ROOM}/{EVENT}", True),
    ("GET", f"/_matrix/federation/v1/make_join/{ROOM}/@spy:{{self}}?ver=12", False),
    ("PUT", f"/_matrix/federation/v2/send_join/{ROOM}/{EVENT}", True),
    ("GET", f"/_matrix/federation/v1/make_knock/{ROOM}/@spy:{{self}}?ver=12", False),
    ("PUT", f"/_matrix/federation/v1/send_knock/{ROOM}/{EVENT}", True),
    ("GET", f"/_matrix/federation/v1/make_leave/{ROOM}/@spy:{{self}}", False),
    ("PUT", f"/_matrix/federation/v2/send_leave/{ROOM}/{EVENT}", True),
    ("GET", "/_matrix/federation/v1/openid/userinfo?access_token=x", False),
    ("GET", f"/_matrix/federation/v1/event_auth/{ROOM}/{EVENT}", False),
    ("POST", "/_matrix/policy/v1/sign", True),
    ("GET", "/_matrix/federation/v1/publicRooms", False),
    ("POST", "/_matrix/federation/v1/publicRooms", True),
    ("GET", "/_matrix/federation/v1/query/directory?room_alias=%23hall:{peer}", False),
    ("GET", "/_matrix/federation/v1/query/profile?user_id=@anna:{peer}", False),
    ("GET", f"/_matrix/federation/v1/event/{EVENT}", False),
    ("GET", f"/_matrix/federation/v1/state/{ROOM}?event_id={EVENT}", False),
    ("GET", f"/_matrix/federation/v1/state_ids/{ROOM}?event_id={EVENT}", False),
    ("GET", f"/_matrix/federation/v1/timestamp_to_event/{ROOM}?ts=0&dir=f", False),
    ("GET", "/_matrix/federation/v1/version", False),
    ("GET", "/_matrix/key/v2/server", False),
    ("POST", "/_matrix/key/v2/query", True),
    ("GET", "/_matrix/key/v2/query/{self}", False),
    ("GET", f"/_matrix/federation/v1/hierarchy/{ROOM}", False),
    ("PUT", "/_matrix/federation/v1/3pid/onbind", True),
    ("PUT", f"/_matrix/federation/v1/exchange_third_party_invite/{ROOM}", True),
    ("PUT", "/_matrix/federation/v1/send/txn1", True),
]
CLIENT = [
    ("POST", "/_matrix/client/v3/register", {"username": "spy", "password": "x", "auth": {"type": "m.login.dummy"}}),
    ("POST", "/_matrix/client/v3/register?kind=guest", {}),
    ("POST", "/_matrix/client/v3/login", {"type": "m.login.password", "user": "anna", "password": "x"}),
    ("POST", "/_matrix/client/v3/login", {"type": "m.login.token", "token": "guess"}),
    ("POST", "/_matrix/client/v3/login", {"type": "m.login.application_service", "user": "anna"}),
    ("POST", "/_matrix/client/v1/login/get_token", {}),
    ("POST", "/_synapse/admin/v1/register", {"nonce": "x", "username": "spy", "password": "x", "mac": "x"}),
    ("GET", "/_matrix/client/v3/account/whoami", None),
    ("GET", "/_matrix/client/v3/sync", None),
    ("POST", "/_matrix/client/v3/createRoom", {}),
]


class Stranger:
    """Made with its own PKI folder (tests/pki/make_pki: servers/gamma, people/spy)."""

    def __init__(self, name, pki):
        self.name = name
        self.pki = Path(pki)
        self.key = SigningKey()
        self.tried, self.accepted, self.visits = 0, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._count_visits, daemon=True).start()

    def _count_visits(self):
        while True:
            try:
                visitor, _ = self.listener.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self):
        self.listener.close()

    def x_matrix(self, method, target, destination, content):
        signed = {"method": method, "uri": target, "origin": self.name, "destination": destination}
        if content is not None:
            signed["content"] = content
        signature = self.key.signature(signed)
        return f'X-Matrix origin="{self.name}",destination="{destination}",key="ed25519:1",sig="{signature}"'

    def _ask(self, way, port, certificate, method, target, body, headers=None):
        """One try.  Whatever is not a plain refusal counts as accepted."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # it does not care whom it robs
        if certificate is not None:
            context.load_cert_chain(*certificate)
        self.tried += 1
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
        try:
            sent = None if body is None else canonical(body)
            connection.request(method, target, sent, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
        except (ssl.SSLError, ConnectionError, http.client.HTTPException):
            return  # ended in the handshake
        except socket.timeout:
            raise Failed(f"{way}: {method} {target} hangs") from None
        finally:
            connection.close()
        if answer.status < 400 or answer.status >= 500:
            self.accepted.append(f"{way}: {method} {target} -> {answer.status} {text[:200]!r}")

    def besiege(self, peer, partner_port, certificate_port, client_url):
        """Try every way into @peer."""
        own = (self.pki / "servers/gamma.pem", self.pki / "servers/gamma.key")
        spy = (self.pki / "people/spy.pem", self.pki / "people/spy.key")
        for method, target, has_body in FEDERATION:
            target = target.format(self=self.name, peer=peer).replace("!", "%21").replace("$", "%24")
            body = {"origin": self.name, "pdus": [], "edus": []} if has_body else None
            signed = {"Authorization": self.x_matrix(method, target, peer, body)}
            self._ask("federation, own certificate, own signature", partner_port, own, method, target, body, signed)
            self._ask("federation, no certificate, own signature", partner_port, None, method, target, body, signed)
        target, body = "/_matrix/federation/v1/send/txn2", {"origin": peer, "pdus": []}
        stolen = {"Authorization": self.x_matrix("PUT", target, peer, body).replace(self.name, "beta.example")}
        self._ask("federation, another's name", partner_port, own, "PUT", target, body, stolen)
        self._ask("federation, unsigned", partner_port, own, "PUT", target, body)
        client_port = int(client_url.rsplit(":", 1)[1].strip("/"))
        for method, target, body in CLIENT:
            self._ask("client", client_port, None, method, target, body)
        for method, target, body in [
            ("POST", "/_chancery/v1/challenge", {"purpose": "login"}), ("POST", "/_chancery/v1/login", {}),
            ("GET", "/_chancery/v1/login/sso?redirectUrl=http%3A%2F%2F127.0.0.1%3A1%2Flanded", None),
        ]:  # fmt: skip
            self._ask("certificate listener, foreign card", certificate_port, spy, method, target, body)
            self._ask("certificate listener, no card", certificate_port, None, method, target, body)
