"""One agency: its national PKI, configuration, database, server process, officers and officials."""

import json
import os
import re
import signal
import time
from pathlib import Path

from .matrix import Client
from .processes import ROOT, Failed, run, start, stop, wait_until

MAKE_PKI = ROOT / "tests/pki/make_pki"
POLICY = "2.999.1.1"
PASS_PHRASE = "chancery"
# Where a browser's log-in may return: Element Web, and the tests' landing page, on any port of loopback.
REDIRECT_URLS = ["http://localhost/", "http://127.0.0.1/", "http://127.0.0.1/landed"]


def program():
    return Path(os.environ.get("CHANCERY_PROGRAM", ROOT / "build/release/chancery"))


class Agency:
    """@name is the server name ("alpha.example"); @ports: client, federation, certificate."""

    def __init__(self, name, country, home, cluster, ports):
        self.name, self.country = name, country
        self.short = name.split(".")[0]
        self.home = Path(home)
        self.cluster = cluster
        self.ports = ports
        self.pki = self.home / "pki"
        self.config = self.home / "chancery.conf"
        self.log = self.home / "log"
        self.process = None
        self.officers = []
        self.federation_officer = f"{self.short}-federation"
        self.limited = True  # rate limits, as a real server has them
        self.plain = False  # clients by plain HTTP, as behind a proxy on the same machine

    # ---- addresses ----

    @property
    def url(self):
        return f"{'http' if self.plain else 'https'}://localhost:{self.ports['client']}"

    @property
    def certificate_url(self):
        return f"https://localhost:{self.ports['certificate']}"

    @property
    def issuer_name(self):
        """The common name of the CA that issues people's certificates (tests/pki/make_pki)."""
        return f"{self.short.capitalize()} Officials CA"

    def user_id(self, person):
        return f"@{person}:{self.name}"

    @property
    def authority(self):
        """The CA of servers, for clients."""
        return self.pki / "server-root.pem"

    def p12(self, person):
        return self.pki / f"people/{person}.p12"

    # ---- set-up ----

    @staticmethod
    def make_pki_in(folder, *arguments):
        return run([MAKE_PKI, "--out", folder, *arguments], env={**os.environ, "MAKE_PKI_PASSPHRASE": PASS_PHRASE})

    def make_pki(self, *arguments):
        return self.make_pki_in(self.pki, *arguments)

    def prepare(self, people):
        """PKI, certificates, CRLs, configuration, database: what is there already stays."""
        self.home.mkdir(parents=True, exist_ok=True)
        if not (self.pki / "issuing.pem").exists():
            self.make_pki("ca", "--country", self.country, "--name", self.short.capitalize())
        self.make_pki("server", self.short, "--host", self.name, "--if-needed")
        for person in [*people, self.federation_officer]:
            self.make_pki("person", person, "--if-needed")
        self.make_pki("crl")
        self.write_config()
        self.cluster.create_database(self.short)
        self.cluster.create_role(self.serving_role)
        self.migrate()

    @property
    def serving_role(self):
        """The server's own database role: it may not change the audit log, nor any table's shape."""
        return f"{self.short}_server"

    def migrate(self):
        """As the owner of the tables, who then gives the serving role its rights."""
        self.chancery("migrate", "--config", self.config, "--owner", self.cluster.conninfo(self.short))

    def write_config(self, **changed):
        server = {"certificate": f"pki/servers/{self.short}.pem", "key": f"pki/servers/{self.short}.key"}
        sections = {
            "server": {"name": self.name, "public_base_url": self.url, "state_directory": "state"},
            "client": {"listen": f"127.0.0.1:{self.ports['client']}", **({} if self.plain else server)},
            "federation": {
                "listen": f"127.0.0.1:{self.ports['federation']}",
                "allow_list_signers": self.fingerprint(self.federation_officer), **server,
            },
            "certificate": {
                "listen": f"127.0.0.1:{self.ports['certificate']}", "public_base_url": self.certificate_url, **server,
            },
            "identity": {
                "anchors": "pki/root.pem", "intermediates": "pki/issuing.pem", "crl_directory": "pki/crl",
                "policy_oids": POLICY, "redirect_urls": " ".join(REDIRECT_URLS),
            },
            "limits": {"rates": "yes" if self.limited else "no"},
            "database": {"conninfo": self.cluster.conninfo(self.short, self.cluster.role(self.serving_role))},
        }  # fmt: skip
        for name, settings in changed.items():
            sections[name].update(settings)
        text = "".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()) + "\n"
            for section, settings in sections.items()
        )
        self.config.write_text(text)

    # ---- the process ----

    def chancery(self, command, *arguments, **options):
        """Run one command of the program to its end."""
        return run([program(), command, *arguments], cwd=self.home, **options)

    def start(self):
        with open(self.log, "ab") as log:
            offset = log.tell()
            self.process = start(
                [program(), "serve", "--config", self.config], cwd=self.home, stdout=log, stderr=log
            )

        def ready():
            with open(self.log, "rb") as log:
                log.seek(offset)
                return re.search(rb"^chancery: ready", log.read(), re.M)

        try:
            wait_until(ready, f"{self.name} does not get ready", process=self.process)
        except Failed as failure:
            stop(self.process)
            self.process = None
            raise Failed(f"{failure}\n{self.tail()}") from None
        return self

    def tail(self, size=3000):
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def stop(self):
        """Ends it; the exit status."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        return stop(process)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    # ---- people, by the commands that they use themselves ----

    def found(self):
        """Names the first two officers, on the server; once."""
        try:
            first, second = (self.pki / f"people/{officer}.pem" for officer in self.officers[:2])
            self.chancery("found", "--config", self.config, "--officer", first, "--officer", second)
        except Failed as failure:
            if "officers" not in str(failure) or "already" not in str(failure):
                raise

    def desk(self, person):
        """The options with which @person works at the certificate listener."""
        return [
            "--certificate-listener", self.certificate_url, "--authority", self.authority,
            "--p12", self.p12(person), "--passphrase-file", self.secret(),
        ]  # fmt: skip

    def secret(self):
        file = self.home / "passphrase"
        if not file.exists():
            file.write_text(PASS_PHRASE + "\n")
        return file

    def officer(self, number, command, verb, *arguments):
        """One act of our first (0) or second (1) officer; what it printed."""
        return self.chancery(command, verb, *arguments, "--yes", *self.desk(self.officers[number]))

    def enrolments(self):
        """{user id: (state, SHA-256 of the certificate)}"""
        rows = (line.split() for line in self.officer(0, "enrol", "list").splitlines())
        return {user_id: (state, digest) for user_id, state, digest in rows}

    def fingerprint(self, person):
        """SHA-256 of the certificate, hexadecimal."""
        printed = run(["openssl", "x509", "-in", self.pki / f"people/{person}.pem", "-noout", "-fingerprint", "-sha256"])
        return printed.strip().split("=")[1].replace(":", "").lower()

    def trust(self, entries):
        """The federation officer signs a list of these @entries (Agency.describe), and it is put in force."""
        files = []
        for number, entry in enumerate(entries):
            files.append(self.home / f"entry-{number}.json")
            files[-1].write_text(entry)
        unsigned, signed = self.home / "partners.json", self.home / "partners.signed"
        unsigned.write_text(
            self.chancery("partner", "make", "--list-id", self.short, "--serial", int(time.time() * 1000), *files)
        )
        self.chancery(
            "partner", "sign", "--p12", self.p12(self.federation_officer), "--passphrase-file", self.secret(),
            "--output", signed, unsigned,
        )  # fmt: skip
        self.chancery("partner", "import", "--config", self.config, signed)

    def describe(self, address):
        """What a partner's list says of us."""
        return self.chancery("partner", "describe", "--config", self.config, "--address", address)

    def enrol(self, person):
        """Proposed by one officer, approved by the other; unless that certificate is enrolled already."""
        certificate = self.pki / f"people/{person}.pem"
        if self.enrolments().get(self.user_id(person)) == ("active", self.fingerprint(person)):
            return
        proposed = self.officer(
            0, "enrol", "propose", "--user", self.user_id(person), "--certificate", certificate, "--ticket", "demo-1"
        )
        number = re.search(r"^proposed (\w+)", proposed, re.M).group(1)
        self.officer(1, "enrol", "approve", number)

    def login_command(self, person):
        """As a person would type it."""
        return (
            f"{program()} login --certificate-listener {self.certificate_url} --authority {self.authority} "
            f"--p12 {self.p12(person)} --print"
        )

    def login(self, person, *arguments):
        """A session of @person by `chancery login`."""
        printed = self.chancery("login", "--print", *arguments, *self.desk(person))
        session, _ = json.JSONDecoder().raw_decode(printed, printed.index("{"))
        return Client(
            self.url, self.authority, session["access_token"], session["user_id"], session["device_id"]
        )

    def anonymous(self):
        return Client(self.url, self.authority)
