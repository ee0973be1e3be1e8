"""kill -9 of the server and of PostgreSQL under load: every acknowledged event is there, once, in order."""

import http.client
import random
import tempfile
import threading
import time
import unittest

from harness import tap
from harness.agency import Agency
from harness.matrix import Client, Refused, quote
from harness.postgres import Cluster
from harness.processes import free_ports

KILLS = 20
SENDERS = 4


class Sender(threading.Thread):
    """Sends numbered lines; repeats one with its transaction id until it is acknowledged, as clients do."""

    def __init__(self, name, session, agency, room_id, ending):
        super().__init__(daemon=True)
        self.name, self.room_id, self.ending = name, room_id, ending
        self.client = Client(agency.url, agency.authority, session.access_token, session.user_id)
        self.acknowledged = []
        self.odd = None

    def run(self):
        number = 0
        while not self.ending.is_set():
            number += 1
            body = f"{self.name} {number}"
            while True:
                try:
                    event_id = self.client.send(self.room_id, body, transaction=f"{self.name}-{number}")
                    self.acknowledged.append((body, event_id))
                    break
                except Refused as refusal:
                    if refusal.status not in (502, 503):
                        self.odd = f"{body}: {refusal}"
                        return
                except (OSError, http.client.HTTPException):
                    pass  # no answer, or the first half of one: whoever wrote it was killed
                except Exception as failure:  # noqa: BLE001 (told by the test)
                    self.odd = f"{body}: {failure!r}"
                    return
                self.client.close()
                time.sleep(0.05)


def all_messages(client, room_id):
    """(body, event id) from the first to the last."""
    found, since = [], None
    while True:
        query = {"dir": "f", "limit": 500, **({"from": since} if since else {})}
        page = client.get(f"rooms/{quote(room_id)}/messages", **query)
        found += [
            (event["content"].get("body"), event["event_id"])
            for event in page["chunk"]
            if event["type"] == "m.room.message"
        ]
        since = page.get("end")
        if not since or not page["chunk"]:
            return found


class Crash(unittest.TestCase):
    def test_kill_9(self):
        """20 times kill -9 under load, of the server and of PostgreSQL: nothing acknowledged is lost or doubled"""
        dice = random.Random(20)
        with tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp") as folder, Cluster(durable=False) as cluster:
            ports = dict(zip(("client", "federation", "certificate"), free_ports(3)))
            agency = Agency("alpha.example", "AA", folder, cluster, ports)
            agency.limited = False
            agency.officers = ["adele", "albert"]
            agency.prepare(["adele", "albert", "anna"])
            agency.found()
            agency.start()
            ending = threading.Event()
            try:
                agency.enrol("anna")
                anna = agency.login("anna")
                room_id = anna.create_room()
                senders = [Sender(f"s{number}", anna, agency, room_id, ending) for number in range(SENDERS)]
                for sender in senders:
                    sender.start()
                for number in range(KILLS):
                    time.sleep(dice.uniform(0.1, 0.6))
                    before = sum(len(sender.acknowledged) for sender in senders)
                    if number % 2:
                        cluster.kill()
                        cluster.start()
                    else:
                        agency.kill()
                        agency.start()
                    # Progress again before the next blow, without a restart of the server after PostgreSQL's.
                    deadline = time.monotonic() + 30
                    while sum(len(sender.acknowledged) for sender in senders) <= before + SENDERS:
                        self.assertEqual([sender.odd for sender in senders if sender.odd], [])
                        self.assertLess(time.monotonic(), deadline, f"no recovery after blow {number}: {agency.tail()}")
                        time.sleep(0.02)
                ending.set()
                for sender in senders:
                    sender.join(60)
                    self.assertIsNone(sender.odd)
                stored = all_messages(anna, room_id)
                bodies = [body for body, _ in stored]
                self.assertEqual(len(bodies), len(set(bodies)), "an event is there twice")
                places = {event: place for place, (_, event) in enumerate(stored)}
                total = 0
                for sender in senders:
                    order = [places.get(event) for _, event in sender.acknowledged]
                    self.assertNotIn(None, order, "an acknowledged event is gone")
                    self.assertEqual(order, sorted(order), "an acknowledged event is out of order")
                    total += len(order)
                print(f"# figure: {KILLS} blows, {total} acknowledged events, {len(stored)} stored", flush=True)
            finally:
                ending.set()
                agency.stop()


tap.main()
