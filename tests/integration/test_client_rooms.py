"""What people see of a room: by its history visibility, after redactions, and by repeated requests."""

import json

from harness import tap
from harness.matrix import Parked, Refused, quote
from harness.plain import ThreePeople, at_once


class Rooms(ThreePeople):
    def may_read(self, person, room_id, event_id):
        """Whether /event, /context and /messages show it; they must agree."""
        seen = set()
        for part in ("event", "context"):
            try:
                person.get(f"rooms/{quote(room_id)}/{part}/{quote(event_id)}")
                seen.add(True)
            except Refused as refusal:
                self.assertIn((refusal.status, refusal.errcode), ((403, "M_FORBIDDEN"), (404, "M_NOT_FOUND")))
                seen.add(False)
        try:
            page = person.messages(room_id, dir="b", limit=100)
            seen.add(event_id in [event["event_id"] for event in page["chunk"]])
        except Refused as refusal:
            self.assertEqual((refusal.status, refusal.errcode), (403, "M_FORBIDDEN"))
            seen.add(False)
        self.assertEqual(len(seen), 1, "the ways to read disagree")
        return seen.pop()

    # ---- history visibility ----

    def test_history_visibility(self):
        """who reads what was said before the invite, before the join, in between and after leaving"""
        for visibility, expected in (
            ("joined", [False, False, True, False]),
            ("invited", [False, True, True, False]),
            ("shared", [True, True, True, False]),
        ):
            room_id = self.anna.create_room(
                initial_state=[
                    {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
                ]
            )
            said = [self.anna.send(room_id, "before the invite")]
            self.anna.invite(room_id, self.berta.user_id)
            said.append(self.anna.send(room_id, "before the join"))
            self.assertEqual([self.may_read(self.berta, room_id, event_id) for event_id in said], [False, False])
            self.berta.join(room_id)
            said.append(self.anna.send(room_id, "in between"))
            self.assertEqual([self.may_read(self.berta, room_id, event_id) for event_id in said], expected[:3])
            told = self.berta.sync_with()["rooms"]["join"][room_id]["timeline"]["events"]
            told = [event["event_id"] for event in told]
            self.assertEqual([event_id in told for event_id in said], expected[:3], visibility)
            self.berta.leave(room_id)
            said.append(self.anna.send(room_id, "after leaving"))
            self.assertEqual([self.may_read(self.berta, room_id, event_id) for event_id in said], expected, visibility)
            self.assertFalse(any(self.may_read(self.carl, room_id, event_id) for event_id in said))

    def test_world_readable(self):
        """a world-readable room is read by anybody, written by its members, and closed when it closes"""
        room_id = self.hall(
            self.berta,
            initial_state=[
                {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
            ],
        )
        said = self.anna.send(room_id, "to everybody")
        self.assertTrue(self.may_read(self.carl, room_id, said))
        self.assertEqual(self.carl.refused("PUT", f"rooms/{quote(room_id)}/send/m.room.message/x", {})[0], 403)
        self.assertNotIn(room_id, self.carl.sync_with()["rooms"]["join"])
        self.anna.state(room_id, "m.room.history_visibility", {"history_visibility": "joined"})
        later = self.anna.send(room_id, "to us")
        self.assertFalse(self.may_read(self.carl, room_id, later))
        self.assertTrue(self.may_read(self.berta, room_id, later))

    def test_relations_after_leaving(self):
        """who left reads no reply, reaction or thread of later, whichever way they page"""
        room_id = self.hall(self.berta)
        root = self.anna.send(room_id, "root")

        def reply(to, text):
            content = {"msgtype": "m.text", "body": text, "m.relates_to": {"rel_type": "m.thread", "event_id": to}}
            return self.anna.put(f"rooms/{quote(room_id)}/send/m.room.message/{quote(text)}", content)["event_id"]

        seen = reply(root, "while you were here")
        self.berta.leave(room_id)
        hidden = [reply(root, "swordfish"), self.anna.send(room_id, "hemlock")]
        hidden.append(reply(hidden[1], "nightshade"))
        api = f"/_matrix/client/v1/rooms/{quote(room_id)}/"
        for query in ({}, {"dir": "b"}, {"dir": "f"}, {"dir": "f", "from": "t999999"}, {"dir": "b", "from": "t999999"}):
            for path in (f"relations/{quote(root)}", f"relations/{quote(root)}/m.thread", "threads"):
                text = json.dumps(self.berta.request("GET", api + path, query=query))
                for event_id in hidden:
                    self.assertNotIn(event_id, text, (path, query))
            page = self.anna.request("GET", api + f"relations/{quote(root)}", query=query)
            if "from" not in query:
                self.assertIn(hidden[0], [event["event_id"] for event in page["chunk"]])
        page = self.berta.request("GET", api + f"relations/{quote(root)}", query={"dir": "f"})
        self.assertEqual([event["event_id"] for event in page["chunk"]], [seen])
        with self.assertRaises(Refused) as caught:
            self.berta.request("GET", api + f"relations/{quote(hidden[1])}", query={"dir": "f"})
        self.assertEqual((caught.exception.status, caught.exception.errcode), (404, "M_NOT_FOUND"))

    def test_members_of_before(self):
        """a token of before the reader's time shows who was there then only where history is shared"""
        for visibility, allowed in (("joined", False), ("invited", False), ("shared", True)):
            room_id = self.hall(
                self.carl,
                initial_state=[
                    {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
                ],
            )
            then = self.anna.sync()["next_batch"]
            self.carl.leave(room_id)
            self.anna.invite(room_id, self.berta.user_id)
            self.berta.join(room_id)
            now = self.anna.sync()["next_batch"]
            path = f"rooms/{quote(room_id)}/members"
            self.assertEqual(
                self.berta.refused("GET", path, at=then), (200, None) if allowed else (403, "M_FORBIDDEN"), visibility
            )
            self.assertEqual(len(self.anna.get(path, at=then, membership="join")["chunk"]), 2)
            self.assertEqual(len(self.berta.get(path, at=now, membership="join")["chunk"]), 2)

    def test_hidden_history_does_not_end_a_page(self):
        """pages go on over a stretch that the reader may not see"""
        room_id = self.hall(self.berta)
        first = self.anna.send(room_id, "first")
        self.berta.leave(room_id)
        self.anna.state(room_id, "m.room.history_visibility", {"history_visibility": "joined"})
        hidden = [self.anna.send(room_id, f"hidden {i}") for i in range(30)]
        self.anna.invite(room_id, self.berta.user_id)
        self.berta.join(room_id)
        last = self.anna.send(room_id, "last")
        found, token = [], None
        for _ in range(100):
            page = self.berta.messages(room_id, dir="b", limit=3, **({"from": token} if token else {}))
            found += [event["event_id"] for event in page["chunk"]]
            token = page.get("end")
            if token is None:
                break
        self.assertEqual(len(found), len(set(found)))
        self.assertIn(first, found)
        self.assertIn(last, found)
        self.assertFalse(set(hidden) & set(found))

    # ---- redactions ----

    def test_redaction_in_sync(self):
        """a redaction comes with both forms of what it redacts; what it redacted is empty from then on, everywhere"""
        room_id = self.hall(self.berta)
        secret = self.anna.send(room_id, "the code is swordfish")
        topic = self.anna.state(room_id, "m.room.topic", {"topic": "code hemlock"})
        self.berta.catch_up()
        parked = Parked(self.berta)
        redaction = self.anna.put(f"rooms/{quote(room_id)}/redact/{quote(secret)}/r1", {"reason": "oops"})["event_id"]
        answer = parked.result()
        event = answer["rooms"]["join"][room_id]["timeline"]["events"][0]
        self.assertEqual((event["event_id"], event["type"]), (redaction, "m.room.redaction"))
        self.assertEqual(event["redacts"], secret)
        self.assertEqual(event["content"], {"redacts": secret, "reason": "oops"})
        self.anna.put(f"rooms/{quote(room_id)}/redact/{quote(topic)}/r2", {})
        after = self.anna.state(room_id, "m.room.topic", {"topic": "harmless"})
        self.anna.invite(room_id, self.carl.user_id)
        narrow = '{"room":{"timeline":{"limit":1}}}'
        for view in (
            self.berta.sync_with(), self.berta.sync_with(filter=narrow), self.carl.sync_with(),
            self.berta.get(f"rooms/{quote(room_id)}/state"), self.berta.messages(room_id, dir="b", limit=100),
            self.berta.get(f"rooms/{quote(room_id)}/event/{quote(topic)}"),
            self.berta.get(f"rooms/{quote(room_id)}/event/{quote(after)}"),
            self.berta.get(f"rooms/{quote(room_id)}/context/{quote(secret)}", limit=20),
        ):  # fmt: skip
            self.assertNotIn("swordfish", str(view))
            self.assertNotIn("hemlock", str(view))
        event = self.berta.get(f"rooms/{quote(room_id)}/event/{quote(secret)}")
        self.assertEqual(event["content"], {})
        self.assertEqual(event["unsigned"]["redacted_because"]["event_id"], redaction)
        self.assertEqual(event["unsigned"]["redacted_because"]["content"]["reason"], "oops")

    def test_redacted_state_in_state(self):
        """state that was redacted is told without its content, as state and to the invited"""
        room_id = self.hall(self.berta)
        topic = self.anna.state(room_id, "m.room.topic", {"topic": "code hemlock"})
        self.anna.put(f"rooms/{quote(room_id)}/redact/{quote(topic)}/r", {})
        self.anna.send(room_id, "noise")
        self.anna.invite(room_id, self.carl.user_id)
        narrow = '{"room":{"timeline":{"limit":1}}}'
        for view in (
            self.berta.sync_with(filter=narrow), self.carl.sync_with()["rooms"]["invite"][room_id],
            self.berta.get(f"rooms/{quote(room_id)}/state"),
            self.berta.get(f"rooms/{quote(room_id)}/state/m.room.topic"),
            self.berta.sync_with(filter=narrow, use_state_after="true"),
        ):  # fmt: skip
            self.assertNotIn("hemlock", str(view))

    # ---- repeated requests ----

    def test_transactions(self):
        """an id counts once for a device and a path; the answer to a repetition is the first one's"""
        room_id, other = self.hall(), self.hall()
        first = self.anna.send(room_id, "one", "same")
        self.assertEqual(self.anna.send(room_id, "two", "same"), first)
        self.assertNotEqual(self.anna.send(other, "three", "same"), first)
        second_device = self.server.login(self.anna)
        self.assertNotEqual(second_device.send(room_id, "four", "same"), first)
        path = f"rooms/{quote(room_id)}/send/com.example.note/same"
        self.assertNotEqual(self.anna.put(path, {})["event_id"], first)
        ids = at_once(*[lambda: self.anna.twin().send(room_id, "at once", "together") for _ in range(8)])
        self.assertEqual(len(set(ids)), 1)
        redactions = at_once(
            *[
                lambda: self.anna.twin().put(f"rooms/{quote(room_id)}/redact/{quote(first)}/again", {})["event_id"]
                for _ in range(4)
            ]
        )
        self.assertEqual(len(set(redactions)), 1)
        page = self.anna.messages(room_id, dir="b", limit=100)["chunk"]
        for event_id, count in ((ids[0], 1), (redactions[0], 1)):
            self.assertEqual([event["event_id"] for event in page].count(event_id), count)
        # The id is told to the device that sent it, and to no other.
        told = [event for event in page if event["event_id"] == ids[0]][0]
        self.assertEqual(told["unsigned"]["transaction_id"], "together")
        event = second_device.get(f"rooms/{quote(room_id)}/event/{quote(ids[0])}")
        self.assertNotIn("transaction_id", event["unsigned"])
        # A refused request does not use up its id.
        hers = self.berta.create_room()
        self.assertEqual(self.anna.refused("PUT", f"rooms/{quote(hers)}/send/m.room.message/late", {})[0], 403)
        self.berta.invite(hers, self.anna.user_id)
        self.anna.join(hers)
        self.assertTrue(self.anna.send(hers, "now", "late"))
        # Limits of an id.
        self.anna.send(room_id, "long", "x" * 255)
        path = f"rooms/{quote(room_id)}/send/m.room.message/" + "x" * 256
        self.assertEqual(self.anna.refused("PUT", path, {})[0], 400)

    def test_same_state_again(self):
        """state that is as it was makes no event; the same again after a change does"""
        room_id = self.hall()
        first = self.anna.state(room_id, "com.example.flag", {"up": True})
        self.assertEqual(self.anna.state(room_id, "com.example.flag", {"up": True}), first)
        self.assertNotEqual(self.anna.state(room_id, "com.example.flag", {"up": False}), first)
        self.assertNotEqual(self.anna.state(room_id, "com.example.flag", {"up": True}), first)

    def test_many_at_once(self):
        """messages of many at a time all arrive, once each, in one order for everybody"""
        room_id = self.hall(self.berta, self.carl)
        people = (self.anna, self.berta, self.carl)
        for person in people:
            person.catch_up()
        sent = at_once(*[
            lambda person=person, i=i: person.twin().send(room_id, f"{person.user_id} {i}", f"at-once-{i}")
            for i in range(15) for person in people
        ])  # fmt: skip
        self.assertEqual(len(set(sent)), 45)
        orders = []
        for person in people:
            order, wide = [], '{"room":{"timeline":{"limit":100}}}'
            while len(order) < 45:
                answer = person.sync_with(since=person.since, filter=wide)
                room = answer.get("rooms", {}).get("join", {}).get(room_id)
                self.assertIsNotNone(room)
                self.assertFalse(room["timeline"]["limited"])
                order += [event["event_id"] for event in room["timeline"]["events"]]
                person.since = answer["next_batch"]
            orders.append(order)
        self.assertEqual(sorted(orders[0]), sorted(sent))
        self.assertEqual(orders[0], orders[1])
        self.assertEqual(orders[0], orders[2])


tap.main()
