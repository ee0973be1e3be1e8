"""Many people on two servers do everything at once; at the end both servers have one and the same state of each room."""

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
ROUNDS_MAX = 4
ROUND_S = 10


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
        cls.creators = {}
        cls.seed = random.randrange(1 << 32)
        print(f"# seed {cls.seed}", flush=True)

    @classmethod
    def tearDownClass(cls):
        statuses = [server.stop() for server in cls.servers]
        if any(statuses):
            print(*(f"# {line}" for server in cls.servers for line in server.tail().splitlines()), sep="\n", flush=True)
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
            (0 if client.user_id == self.creators[room_id].user_id else 3, lambda: client.leave(room_id)),
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
        """What a joined person of @server sees; None when nobody of it is."""
        for home, client in self.people:
            if home is server and room_id in client.get("joined_rooms")["joined_rooms"]:
                events = client.get(f"rooms/{quote(room_id)}/state")
                return {(event["type"], event["state_key"]): event["event_id"] for event in events}
        return None

    def attempt(self, *calls):
        for call in calls:
            try:
                call()
            except Refused as refusal:
                print(f"# {refusal}", flush=True)

    def gather(self, room_id):
        """Everybody comes back: banned ones too, for nobody can ban a creator."""
        via = [server.name for server in self.servers]
        path = f"rooms/{quote(room_id)}"
        for _, client in self.people:
            self.attempt(
                lambda: self.creators[room_id].post(f"{path}/unban", {"user_id": client.user_id}),
                lambda: client.join(room_id, via=via),
            )

    def home_of_creator(self, room_id):
        return next(home for home, client in self.people if client is self.creators[room_id])

    def leave_unheard(self, room_id):
        """A join that one server took and the other soft-failed (rule 5.3.3: banned just then) holds two servers
        apart for good when nobody else of that server is heard over there: each thinks that it alone is right, and
        the specification has no cure but to leave and come back.  Nothing else may hold them apart."""
        at_home = self.home_of_creator(room_id)
        for event in self.creators[room_id].get(f"rooms/{quote(room_id)}/state"):
            if event["type"] == "m.room.member" and event["content"]["membership"] == "join":
                self.assertTrue(event["state_key"].endswith(f":{at_home.name}"), "they hear each other, and differ")
        for home, client in self.people:
            if home is not at_home:
                self.attempt(lambda client=client: client.leave(room_id))

    def become_equal(self, room_id):
        """What one server took in and the other soft-failed holds them apart until somebody goes on from both:
        how often everybody had to speak."""
        for rounds in range(1, ROUNDS_MAX + 1):
            self.gather(room_id)
            for _, client in self.people:
                self.attempt(lambda client=client: client.send(room_id, "a word"))
            until = time.monotonic() + ROUND_S
            while time.monotonic() < until:
                east, west = (self.state(server, room_id) for server in self.servers)
                if east == west:
                    return rounds
                time.sleep(0.1)
            if rounds > 1:
                self.leave_unheard(room_id)
        self.assertEqual(east, west)

    def test_both_servers_end_with_one_state(self):
        everybody = {"power_level_content_override": {"users_default": 100}}
        for _, creator in self.people[:2] + self.people[-2:]:  # two of each server; they never leave
            self.creators[creator.create_room(preset="public_chat", **everybody)] = creator
        rooms = list(self.creators)
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
        rounds = [self.become_equal(room_id) for room_id in rooms]
        print(f"# rounds of words until the rooms were equal: {rounds}", flush=True)


if __name__ == "__main__":
    tap.main()
