"""A graceful stop under load: what was begun is answered, what was acknowledged is kept, and it ends soon."""

import http.client
import tempfile
import threading
import time
import unittest
from pathlib import Path

from harness import tap
from harness.matrix import Parked, Refused, quote
from harness.open_servers import OpenServer
from harness.postgres import Given

WAITING, SENDERS = 20, 4


class Stop(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        home = Path(cls.folder.name)
        cls.cluster = Given()
        cls.server = OpenServer("north.example", home / "north", cls.cluster, home / "pki").start([])

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.cluster.drop_all()
        cls.folder.cleanup()

    def test_a_stop_under_load(self):
        """waiting syncs are answered, acknowledged messages are there afterwards, and it takes less than 10 s"""
        nora = self.server.register("nora")
        room_id, quiet = nora.create_room(), nora.create_room()
        acknowledged, stopping = [], threading.Event()
        waiting = [self.server.register(f"waits{number}") for number in range(WAITING)]
        for person in waiting:
            person.sync()
        parked = [Parked(person) for person in waiting]

        def send(number):
            client = nora.twin()
            count = 0
            while not stopping.is_set() or count == 0:
                try:
                    text = f"{number}-{count}"
                    acknowledged.append((text, client.send(room_id, text)))
                    count += 1
                except Refused as refused:
                    self.assertEqual(refused.status, 503)
                    return
                except (OSError, http.client.HTTPException):
                    return  # no answer: nothing was promised

        senders = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
        for thread in senders:
            thread.start()
        while len(acknowledged) < 50:
            time.sleep(0.01)
        began = time.monotonic()
        self.assertEqual(self.server.stop(), 0, self.server.tail())
        self.assertLess(time.monotonic() - began, 10)
        stopping.set()
        for thread in senders:
            thread.join()
        for one in parked:
            self.assertIn("next_batch", one.result())

        self.server.log = self.server.home / "log-2"
        self.server.start([])
        nora = nora.twin()
        kept, token = {}, None
        while True:
            query = {"dir": "b", "limit": 100, **({"from": token} if token else {})}
            page = nora.get(f"rooms/{quote(room_id)}/messages", **query)
            for event in page["chunk"]:
                if event["type"] == "m.room.message":
                    self.assertNotIn(event["event_id"], kept)
                    kept[event["event_id"]] = event["content"]["body"]
            token = page.get("end")
            if not page["chunk"] or token is None:
                break
        for text, event_id in acknowledged:
            self.assertEqual(kept.get(event_id), text)
        self.assertTrue(nora.send(quiet, "on we go"))


if __name__ == "__main__":
    tap.main()
