"""PostgreSQL goes away in the middle of requests: 503, nothing half done, and recovery without a restart."""

import os
import threading
import time
import unittest

from harness import tap
from harness.matrix import quote
from harness.plain import PlainServer
from harness.postgres import Cluster, psql

JSON = {"Content-Type": "application/json"}


class DatabaseAway(unittest.TestCase):
    def setUp(self):
        self.given = os.environ["CHANCERY_TEST_DATABASE"]
        self.cluster = Cluster(durable=False)
        self.cluster.__enter__()
        os.environ["CHANCERY_TEST_DATABASE"] = self.cluster.conninfo()
        self.server = PlainServer()
        self.server.start()

    def tearDown(self):
        status = self.server.stop()
        os.environ["CHANCERY_TEST_DATABASE"] = self.given
        self.cluster.__exit__(None, None, None)
        self.assertEqual(status, 0, self.server.tail())

    def put(self, person, room_id, name):
        target = f"/_matrix/client/v3/rooms/{quote(room_id)}/send/m.room.message/{name}"
        return person.raw("PUT", target, b'{"msgtype":"m.text","body":"' + name.encode() + b'"}', JSON)

    def unavailable(self, answer):
        self.assertEqual(answer.status, 503, answer.body)
        self.assertTrue(answer.body["errcode"].startswith("M_"), answer.body)
        self.assertGreater(len(answer.body["error"]), 10)

    def until_ready(self, person):
        deadline = time.monotonic() + 30
        while person.raw("GET", "/ready").status != 200:
            self.assertLess(time.monotonic(), deadline, self.server.tail())
            time.sleep(0.05)

    def messages(self, person, room_id):
        chunk = person.messages(room_id, dir="f", limit=100)["chunk"]
        return {event["content"]["body"]: event["event_id"] for event in chunk if event["type"] == "m.room.message"}

    def test_in_the_middle_of_requests(self):
        """requests under way and new ones are answered 503 or done; the server is ready again without a restart"""
        anna = self.server.register("anna")
        room_id = anna.create_room()
        self.assertEqual(self.put(anna, room_id, "before").status, 200)
        # Whoever writes or pages now stands in the middle of a transaction until this session ends.
        holder = threading.Thread(target=self.hold, daemon=True)
        holder.start()
        self.until_held(2)
        answers = {}

        def under_way(name, call):
            answers[name] = call()

        calls = {
            f"write{number}": lambda number=number: self.put(anna.twin(), room_id, f"write{number}")
            for number in range(5)
        }
        target = f"/_matrix/client/v3/rooms/{quote(room_id)}/messages?dir=b"
        calls["read"] = lambda: anna.twin().raw("GET", target)
        threads = [threading.Thread(target=under_way, args=item) for item in calls.items()]
        for thread in threads:
            thread.start()
        self.until_held(3)  # at least the lane waits for the lock
        self.cluster.kill()
        holder.join(30)

        deadline = time.monotonic() + 30
        while anna.raw("GET", "/ready").status == 200:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.assertEqual(anna.raw("GET", "/health").status, 200)
        self.unavailable(anna.raw("GET", "/ready"))
        self.unavailable(self.put(anna, room_id, "while-away"))
        self.unavailable(anna.raw("POST", "/_matrix/client/v3/createRoom", b"{}", JSON))
        self.assertEqual(anna.raw("GET", "/_matrix/client/versions").status, 200)

        self.cluster.start()
        self.until_ready(anna)
        for thread in threads:
            thread.join(60)
            self.assertFalse(thread.is_alive(), "a request was never answered")
        stored = self.messages(anna, room_id)
        self.assertNotIn("while-away", stored)
        for name, answer in answers.items():
            if answer.status != 200:
                self.unavailable(answer)
            elif name != "read":
                self.assertEqual(stored[name], answer.body["event_id"])
            if name != "read":
                again = self.put(anna, room_id, name)
                self.assertEqual(again.status, 200, again.body)
                self.assertEqual(again.body["event_id"], stored.get(name, again.body["event_id"]))
        self.assertEqual(self.put(anna, room_id, "after").status, 200)
        self.assertEqual(
            sorted(self.messages(anna, room_id)), sorted(["before", "after", *(f"write{n}" for n in range(5))])
        )
        print(f"# figure: requests under way: {sorted(answer.status for answer in answers.values())}", flush=True)

    def hold(self):
        try:
            psql(self.server.conninfo, "BEGIN; LOCK TABLE log_head IN EXCLUSIVE MODE; LOCK TABLE event; SELECT pg_sleep(60)")
        except Exception:  # noqa: BLE001 (the cluster is killed under it)
            pass

    def until_held(self, count):
        """Until @count locks on the two tables are held or waited for."""
        text = (
            "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE relname IN ('log_head', 'event')"
            " AND (mode = 'AccessExclusiveLock' OR mode = 'ExclusiveLock' OR NOT granted)"
        )
        deadline = time.monotonic() + 20
        while int(self.server.sql(text)) < count:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)


tap.main()
