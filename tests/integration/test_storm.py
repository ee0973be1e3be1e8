"""Many people on two servers do everything at once; at the end both servers have one and the same state of each room."""

import os
import random
import tempfile
import threading
import time
import unittest
from pathlib import Path

from harness import tap
from harness.matrix import Client, Refused, quote
from harness.open_servers import OpenServer
from harness.postgres import Given

STORM_S = 8
ROOMS = 4


# It fails in about one run of three: after a storm the servers may hold different states of a room.  Open: the
# fault is in how ends of the graph move past soft-failed events.  Until it is found this is asked for by name.
@unittest.skipIf("CHANCERY_STORM" not in os.environ, "known to fail now and then: CHANCERY_STORM=1 runs it")
class Storm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        home = Path(cls.folder.name)
        cls.cluster = Given()
        cls.servers = [OpenServer(f"{name}.example", home / name, cls.cluster, home / "pki") for name in ("east", "west")]
        for server, other in (cls.servers, cls.servers[::-1]):
            server.start([other])
        cls.people = [(server, server.register(f"{server.short}{n}")) for server in cls.servers for n in range(3)]
        cls.seed = random.randrange(1 << 32)
        print(f"# seed {cls.seed}", flush=True)

    @classmethod
    def tearDownClass(cls):
        statuses = [server.stop() for server in cls.servers]
        cls.cluster.drop_all()
        cls.folder.cleanup()
        if any(statuses):
            raise AssertionError(f"a server did not end well: {statuses}")

    def act(self, client, chance, room_id):
        path = f"rooms/{quote(room_id)}"
        other = chance.choice(self.people)[1].user_id
        acts = [
            (30, lambda: client.send(room_id, str(chance.random()))),
            (12, lambda: client.join(room_id, via=[server.name for server in self.servers])),
            (3, lambda: client.leave(room_id)),
            (15, lambda: client.put(f"{path}/state/m.room.topic", {"topic": str(chance.random())})),
            (5, lambda: client.put(f"{path}/state/m.room.name", {"name": str(chance.random())})),
            (3, lambda: client.post(f"{path}/kick", {"user_id": other})),
            (5, lambda: client.invite(room_id, other)),
            (2, lambda: client.post(f"{path}/ban", {"user_id": other})),
            (2, lambda: client.post(f"{path}/unban", {"user_id": other})),
            (2, lambda: client.put(f"profile/{quote(client.user_id)}/displayname", {"displayname": str(chance.random())})),
            (5, lambda: client.get(f"{path}/messages", dir="b", limit=20)),
            (5, lambda: client.sync()),
        ]
        chance.choices([act for _, act in acts], weights=[weight for weight, _ in acts])[0]()

    def person(self, number, rooms, until, failures):
        server, session = self.people[number % len(self.people)]
        client = Client(server.url, server.authority, session.access_token, session.user_id, session.device_id)
        chance = random.Random(self.seed + number)
        while time.monotonic() < until:
            try:
                self.act(client, chance, chance.choice(rooms))
            except Refused as refusal:
                if refusal.status >= 500:
                    failures.append(str(refusal))
            except OSError as error:
                failures.append(repr(error))
                return

    def state(self, server, room_id):
        """What a joined person of @server sees; None when nobody is."""
        for home, client in self.people:
            if home is server and room_id in client.get("joined_rooms")["joined_rooms"]:
                events = client.get(f"rooms/{quote(room_id)}/state")
                return {(event["type"], event["state_key"]): event["event_id"] for event in events}
        return None

    def gather(self, creator, room_id):
        """Everybody comes back: banned ones too, for nobody can ban a creator.  An abandoned room stays so."""
        via = [server.name for server in self.servers]
        for _, client in [(None, creator), *self.people]:
            try:
                if client is not creator:
                    creator.post(f"rooms/{quote(room_id)}/unban", {"user_id": client.user_id})
            except Refused:
                pass
            try:
                client.join(room_id, via=via)
            except Refused as refusal:
                print(f"# {client.user_id} stays out: {refusal}", flush=True)

    def assert_equal_state(self, room_id, until):
        while True:
            east, west = (self.state(server, room_id) for server in self.servers)
            if east is None or west is None or east == west:
                return east is not None and west is not None
            if time.monotonic() > until:
                self.assertEqual(east, west)
            time.sleep(0.2)

    def test_both_servers_end_with_one_state(self):
        creators = [self.people[number % len(self.people)][1] for number in range(ROOMS)]
        everybody = {"power_level_content_override": {"users_default": 100}}
        rooms = [creator.create_room(preset="public_chat", **everybody) for creator in creators]
        for room_id in rooms:
            for _, client in self.people:
                client.join(room_id, via=[server.name for server in self.servers])
        failures, until = [], time.monotonic() + STORM_S
        threads = [threading.Thread(target=self.person, args=(n, rooms, until, failures)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        for creator, room_id in zip(creators, rooms, strict=True):
            self.gather(creator, room_id)
        compared = sum(self.assert_equal_state(room_id, time.monotonic() + 30) for room_id in rooms)
        print(f"# {compared} of {ROOMS} rooms have people of both servers in them", flush=True)
        self.assertGreater(compared, 0)


if __name__ == "__main__":
    tap.main()
