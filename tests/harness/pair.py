"""alpha.example and beta.example: two agencies with officers and officials, partners of each other.

Everything is done by the commands that real officers and officials use.  Each step does only what is
not done yet, so the same pair can be started again on its kept folder.
"""

import json
import time
from pathlib import Path

from .agency import Agency
from .matrix import quote
from .postgres import Given
from .processes import Failed, free_ports
from .proxy import Cable
from .stranger import Stranger

COUNTRIES = {"alpha": "AA", "beta": "BB"}
OFFICERS = {"alpha": ["adele", "albert"], "beta": ["beate", "boris"]}
OFFICIALS = {"alpha": ["anna", "arno"], "beta": ["berta", "bruno"]}


class Pair:
    """@ports: {"alpha": {"client", "federation", "certificate"}, "beta": …}."""

    def __init__(self, home, cluster, ports, say=lambda text: None, rates=True, cables=False):
        self.home, self.cluster, self.say = home, cluster, say
        self.agencies = [
            Agency(f"{short}.example", country, home / short, cluster, ports[short])
            for short, country in COUNTRIES.items()
        ]
        for agency in self.agencies:
            agency.officers = OFFICERS[agency.short]
            agency.limited = rates
        self.alpha, self.beta = self.agencies
        # With @cables the way to each agency's federation listener can be cut.
        self.cables = {agency: Cable(agency.ports["federation"]) for agency in self.agencies} if cables else {}

    def address_of(self, agency):
        """Where partners reach it."""
        return f"127.0.0.1:{self.cables[agency].port if self.cables else agency.ports['federation']}"

    def cut(self):
        for cable in self.cables.values():
            cable.cut()

    def mend(self):
        for cable in self.cables.values():
            cable.mend()

    def start(self):
        for agency in self.agencies:
            agency.prepare([*agency.officers, *OFFICIALS[agency.short]])
            agency.found()
            self.say(f"{agency.name}: national PKI, certificates, database, first officers {' and '.join(agency.officers)}")
        for agency in self.agencies:
            partner = self.beta if agency is self.alpha else self.alpha
            agency.trust([partner.describe(self.address_of(partner))])
        for agency in self.agencies:
            agency.start()
            for person in OFFICIALS[agency.short]:
                agency.enrol(person)
            self.say(f"{agency.name}: serves, and knows {', '.join(OFFICIALS[agency.short])}")

    def exchange(self):
        """One message each way; how many arrived."""
        anna, berta = self.alpha.login("anna"), self.beta.login("berta")
        try:
            room_id = anna.create_room(name="Hall of the two agencies")
            anna.invite(room_id, berta.user_id)
            berta.wait_invited(room_id)
            berta.join(room_id, via=[self.alpha.name])
            arrived = 0
            for sender, reader, text in [
                (anna, berta, "Greetings from alpha.example"), (berta, anna, "Greetings from beta.example"),
            ]:  # fmt: skip
                event = reader.wait_event(room_id, sender.send(room_id, text))
                if event["content"].get("body") != text or event["sender"] != sender.user_id:
                    raise Failed(f"a message arrived changed: {json.dumps(event)}")
                self.say(f"{sender.user_id} -> {reader.user_id}: {text}")
                arrived += 1
            self.stay_alone(anna, room_id)
            return arrived
        finally:
            for client in (anna, berta):
                client.post("logout", {})
                client.close()

    def stay_alone(self, client, room_id):
        """Whoever names gamma.example is refused, before any connection."""
        self.gamma = self.gamma_new()
        for attempt in (
            lambda: client.invite(room_id, "@spy:gamma.example"),
            lambda: client.join("#hall:gamma.example"),
            lambda: client.join("!somewhere:gamma.example", via=["gamma.example", f"localhost:{self.gamma.port}"]),
            lambda: client.get("profile/@spy:gamma.example"),
            lambda: client.get("profile/" + f"@spy:localhost:{self.gamma.port}"),
        ):
            try:
                attempt()
            except Exception as refusal:  # noqa: BLE001 (judged here)
                if getattr(refusal, "status", 0) not in (400, 403, 404):
                    raise
            else:
                raise Failed("somebody of gamma.example could be named")

    def gamma_new(self):
        pki = self.home / "gamma/pki"
        if not (pki / "issuing.pem").exists():
            pki.mkdir(parents=True, exist_ok=True)
            self.alpha.make_pki_in(pki, "ca", "--country", "CC", "--name", "Gamma")
        self.alpha.make_pki_in(pki, "server", "gamma", "--host", "gamma.example", "--if-needed")
        self.alpha.make_pki_in(pki, "person", "spy", "--if-needed")
        return Stranger("gamma.example", pki)

    def besiege(self):
        """gamma.example tries every way into both."""
        for agency in self.agencies:
            self.gamma.besiege(agency.name, agency.ports["federation"], agency.ports["certificate"], agency.url)
        return self.gamma

    @staticmethod
    def state_member(client, room_id, user_id):
        return client.get(f"rooms/{quote(room_id)}/state/m.room.member/{quote(user_id)}")["membership"]

    def watch(self, seconds):
        """Wait a while; fail when a server has ended by itself."""
        time.sleep(seconds)
        for agency in self.agencies:
            if agency.process.poll() is not None:
                raise Failed(f"{agency.name} ended with {agency.process.returncode}\n{agency.tail()}")

    def stop(self):
        """Stops both; {name: exit status}."""
        if getattr(self, "gamma", None) is not None:
            self.gamma.close()
        for cable in self.cables.values():
            cable.close()
        return {agency.name: agency.stop() for agency in self.agencies}


def test_pair(home, **options):
    """A pair for a test, in the cluster that the runner names; end it with .end()."""
    cluster = Given()
    kinds = ("client", "federation", "certificate")
    ports = iter(free_ports(6))
    pair = Pair(Path(home), cluster, {name: {kind: next(ports) for kind in kinds} for name in COUNTRIES}, **options)

    def end():
        statuses = pair.stop()
        cluster.drop_all()
        if any(statuses.values()):
            raise Failed(f"a server did not end well: {statuses}\n" + "\n".join(a.tail() for a in pair.agencies))

    pair.end = end
    return pair
