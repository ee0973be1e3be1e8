"""tests/openserver: servers with open doors, for public conformance suites, load tools and quick looks."""

import os
import signal
from pathlib import Path

from .agency import Agency
from .matrix import Client
from .processes import Failed, free_ports, run, start, stop, wait_until


def program():
    return Path(os.environ["CHANCERY_PROGRAM"]).parent / "openserver"


class OpenServer:
    """Client and server API on one TLS port, certificates by the CA of @agency's PKI folder."""

    def __init__(self, name, home, cluster, authority_home):
        self.name, self.home, self.cluster = name, Path(home), cluster
        self.short = name.split(".")[0]
        self.pki = Path(authority_home)
        self.port = free_ports(1)[0]
        self.url = f"https://localhost:{self.port}"
        self.authority = self.pki / "server-root.pem"
        self.log = self.home / "log"
        self.process = None

    def start(self, peers):
        """@peers: the other servers."""
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.authority.exists():
            Agency.make_pki_in(self.pki, "ca")
        Agency.make_pki_in(self.pki, "server", self.short, "--host", self.name, "--if-needed")
        self.cluster.create_database(self.short)
        with open(self.log, "ab") as log:
            offset = log.tell()
            self.process = start(
                [program(), "--server-name", self.name, "--database", self.cluster.conninfo(self.short)]
                + ["--state-directory", self.home / "state", "--certificate", self.pki / f"servers/{self.short}.pem"]
                + ["--key", self.pki / f"servers/{self.short}.key", "--ca", self.authority, "--port", self.port]
                + ["--shared-secret", "secret"]
                + [word for peer in peers for word in ("--peer", f"{peer.name}=127.0.0.1:{peer.port}")],
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_until(lambda: b"ready" in self.log.read_bytes()[offset:], f"{self.name} does not start", process=self.process)
        except Failed as failure:
            raise Failed(f"{failure}\n{self.tail()}") from None
        return self

    def tail(self, size=3000):
        return self.log.read_text(errors="replace")[-size:]

    def register(self, person):
        client = Client(self.url, self.authority)
        session = client.post(
            "register", {"username": person, "password": "secret words", "auth": {"type": "m.login.dummy"}}
        )
        client.access_token = session["access_token"]
        client.user_id, client.device_id = session["user_id"], session["device_id"]
        return client

    def stop(self, number=signal.SIGTERM):
        return stop(self.process, first=number) if self.process else None
