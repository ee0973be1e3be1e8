"""Rooms by the client API: what people do in them, what they may not, and rooms across two servers."""

import threading
import time

from harness import tap
from harness.matrix import Client, Refused, quote
from harness.two_servers import TwoServers


def state_of(client, room_id, kind, key=""):
    return client.get(f"rooms/{quote(room_id)}/state/{kind}/{quote(key)}")


def bodies(page):
    return [event["content"].get("body") for event in page["chunk"] if event["type"] == "m.room.message"]


class Rooms(TwoServers):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nora, cls.nils = cls.north.register("nora"), cls.north.register("nils")
        cls.sara = cls.south.register("sara")

    def in_room(self, client, room_id):
        return room_id in client.get("joined_rooms")["joined_rooms"]

    def pages(self, client, room_id, direction, limit):
        token, events = None, []
        while True:
            query = {"dir": direction, "limit": limit}
            if token:
                query["from"] = token
            page = client.get(f"rooms/{quote(room_id)}/messages", **query)
            events += page["chunk"]
            if not page["chunk"] or "end" not in page:
                return events
            token = page["end"]

    # ---- one server ----

    def test_create_says_what_was_asked_for(self):
        room_id = self.nora.create_room(
            preset="public_chat",
            name="Harbour",
            topic="Ships",
            initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "invite"}}],
            power_level_content_override={"events_default": 7, "users": {self.nora.user_id: 100}},
        )
        self.assertEqual(state_of(self.nora, room_id, "m.room.name"), {"name": "Harbour"})
        self.assertEqual(state_of(self.nora, room_id, "m.room.join_rules"), {"join_rule": "invite"})
        levels = state_of(self.nora, room_id, "m.room.power_levels")
        self.assertEqual(levels["events_default"], 7)
        self.assertEqual(levels["events"]["m.room.tombstone"], 150)
        self.assertEqual(levels["users"], {})
        self.assertEqual(state_of(self.nora, room_id, "m.room.create")["room_version"], "12")

    def test_create_refuses_what_makes_no_room(self):
        create = lambda body: self.nora.post("createRoom", body)
        self.refused(400, "M_UNSUPPORTED_ROOM_VERSION", create, {"room_version": "13"})
        self.refused(400, "M_INVALID_PARAM", create, {"preset": "open_house"})
        self.refused(400, "M_BAD_JSON", create, {"name": 5})
        self.refused(400, "M_BAD_JSON", create, {"initial_state": [{"type": "x"}]})
        self.refused(400, "M_INVALID_PARAM", create, {"invite": ["nils"]})
        self.refused(403, "M_FORBIDDEN", create, {"invite_3pid": [{"medium": "email"}]})
        before = self.nora.get("joined_rooms")["joined_rooms"]
        self.refused(403, "M_FORBIDDEN", create, {"power_level_content_override": {"users_default": "all"}})
        self.assertEqual(self.nora.get("joined_rooms")["joined_rooms"], before)

    def test_a_repeated_transaction_is_one_event(self):
        room_id = self.nora.create_room()
        first = self.nora.send(room_id, "once", "same")
        self.assertEqual(self.nora.send(room_id, "twice", "same"), first)
        other = self.nora.create_room()
        self.assertNotEqual(self.nora.send(other, "another room", "same"), first)
        results = []

        def send():
            client = Client(self.north.url, self.north.authority, self.nora.access_token)
            results.append(client.send(room_id, "at the same time", "together"))

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(results), 8)
        self.assertEqual(len(set(results)), 1)
        page = self.nora.get(f"rooms/{quote(room_id)}/messages", dir="b", limit=50)
        self.assertEqual(bodies(page), ["at the same time", "once"])

    def test_pages_go_both_ways_without_gap_or_overlap(self):
        room_id = self.nora.create_room()
        sent = [self.nora.send(room_id, f"message {number}") for number in range(23)]
        backwards = [event["event_id"] for event in self.pages(self.nora, room_id, "b", 4)]
        forwards = [event["event_id"] for event in self.pages(self.nora, room_id, "f", 5)]
        self.assertEqual(len(set(backwards)), len(backwards))
        self.assertEqual(backwards[: len(sent)], sent[::-1])
        self.assertEqual(forwards, backwards[::-1])
        page = self.nora.get(
            f"rooms/{quote(room_id)}/messages", dir="b", limit=3, filter='{"types":["m.room.create"]}'
        )
        self.assertEqual([event["type"] for event in page["chunk"]], ["m.room.create"])
        self.refused(400, "M_INVALID_PARAM", self.nora.get, f"rooms/{quote(room_id)}/messages", dir="x")
        context = self.nora.get(f"rooms/{quote(room_id)}/context/{quote(sent[10])}", limit=4)
        self.assertEqual(context["event"]["event_id"], sent[10])
        self.assertEqual([event["event_id"] for event in context["events_before"]], [sent[9], sent[8]])
        self.assertEqual([event["event_id"] for event in context["events_after"]], [sent[11], sent[12]])

    def test_who_is_not_in_the_room_sees_and_says_nothing(self):
        room_id = self.nora.create_room()
        event_id = self.nora.send(room_id, "between us")
        path = f"rooms/{quote(room_id)}"
        for part in ["state", "messages?dir=b", "members", "joined_members", f"event/{quote(event_id)}"]:
            self.refused(403, "M_FORBIDDEN", self.nils.get, f"{path}/{part}")
        self.refused(403, "M_FORBIDDEN", self.nils.send, room_id, "let me in")
        self.refused(403, "M_FORBIDDEN", self.nils.join, room_id)
        self.refused(403, "M_FORBIDDEN", self.nils.put, f"{path}/state/m.room.topic", {"topic": "mine"})
        self.refused(403, "M_FORBIDDEN", self.nils.invite, room_id, self.nils.user_id)
        self.refused(404, "M_NOT_FOUND", self.nils.join, "!" + "A" * 43)

    def test_comings_and_goings(self):
        room_id = self.nora.create_room(invite=[self.nils.user_id])
        path = f"rooms/{quote(room_id)}"
        before = self.nora.send(room_id, "before he came")
        self.assertEqual(self.nils.join(room_id)["room_id"], room_id)
        self.nils.join(room_id)
        self.refused(403, "M_FORBIDDEN", self.nora.invite, room_id, self.nils.user_id)
        self.refused(403, "M_FORBIDDEN", self.nils.put, f"{path}/state/m.room.topic", {"topic": "mine"})
        # History is shared, so he reads what was said before.
        self.assertEqual(self.nils.get(f"{path}/event/{quote(before)}")["event_id"], before)
        self.refused(403, "M_FORBIDDEN", self.nils.post, f"{path}/kick", {"user_id": self.nora.user_id})
        self.nora.post(f"{path}/kick", {"user_id": self.nils.user_id, "reason": "late"})
        after = self.nora.send(room_id, "after he went")
        self.refused(404, "M_NOT_FOUND", self.nils.get, f"{path}/event/{quote(after)}")
        seen = [event["event_id"] for event in self.pages(self.nils, room_id, "b", 3)]
        self.assertNotIn(after, seen)
        self.assertIn(before, seen)
        self.nora.post(f"{path}/ban", {"user_id": self.nils.user_id})
        self.refused(403, "M_FORBIDDEN", self.nils.join, room_id)
        self.refused(403, "M_FORBIDDEN", self.nora.invite, room_id, self.nils.user_id)
        self.assertEqual(self.nils.get(f"{path}/event/{quote(before)}")["event_id"], before)
        self.refused(404, "M_NOT_FOUND", self.nils.get, f"{path}/event/{quote(after)}")
        self.nora.post(f"{path}/unban", {"user_id": self.nils.user_id})
        self.refused(403, "M_FORBIDDEN", self.nora.post, f"{path}/unban", {"user_id": self.nils.user_id})
        self.nils.post(f"{path}/forget", {})
        self.refused(403, "M_FORBIDDEN", self.nils.get, f"{path}/messages", dir="b")
        self.refused(400, "M_UNKNOWN", self.nora.post, f"{path}/forget", {})
        self.nora.leave(room_id)
        self.assertFalse(self.in_room(self.nora, room_id))

    def test_a_redacted_event_has_lost_its_content_everywhere(self):
        room_id = self.nora.create_room(invite=[self.nils.user_id])
        path = f"rooms/{quote(room_id)}"
        self.nils.join(room_id)
        secret = self.nora.send(room_id, "the code is 1234")
        self.refused(403, "M_FORBIDDEN", self.nils.put, f"{path}/redact/{quote(secret)}/r1", {})
        self.refused(404, "M_NOT_FOUND", self.nora.put, f"{path}/redact/{quote('$' + 'A' * 43)}/r2", {})
        redaction = self.nora.put(f"{path}/redact/{quote(secret)}/r3", {"reason": "oops"})["event_id"]
        event = self.nils.get(f"{path}/event/{quote(secret)}")
        self.assertEqual(event["content"], {})
        self.assertEqual(event["unsigned"]["redacted_because"]["event_id"], redaction)
        for page in [
            self.nils.get(f"{path}/messages", dir="b", limit=50)["chunk"],
            [self.nils.get(f"{path}/context/{quote(secret)}")["event"]],
        ]:
            self.assertNotIn("1234", str(page))
        # There is no way around it.
        other = self.nora.send(room_id, "another")
        redaction = {"redacts": other}
        self.refused(403, "M_FORBIDDEN", self.nils.put, f"{path}/send/m.room.redaction/r5", redaction)
        self.refused(400, "M_BAD_JSON", self.nils.put, f"{path}/send/m.room.redaction/r6", {})
        self.refused(400, "M_INVALID_PARAM", self.nils.put, f"{path}/state/m.room.redaction", redaction)
        self.assertEqual(self.nils.get(f"{path}/event/{quote(other)}")["content"]["body"], "another")
        # A redacted topic can be said again.
        topic = self.nora.put(f"{path}/state/m.room.topic", {"topic": "again"})["event_id"]
        self.assertEqual(self.nora.put(f"{path}/state/m.room.topic", {"topic": "again"})["event_id"], topic)
        self.nora.put(f"{path}/redact/{quote(topic)}/r4", {})
        self.assertEqual(state_of(self.nora, room_id, "m.room.topic"), {})
        self.assertNotEqual(self.nora.put(f"{path}/state/m.room.topic", {"topic": "again"})["event_id"], topic)
        self.assertEqual(state_of(self.nora, room_id, "m.room.topic"), {"topic": "again"})

    def test_a_profile_reaches_the_rooms(self):
        lena = self.north.register("lena")
        room_id = lena.create_room()
        name = f"profile/{quote(lena.user_id)}/displayname"
        self.refused(404, "M_NOT_FOUND", lena.get, name)
        lena.put(name, {"displayname": "Lena Holm"})
        self.assertEqual(self.nora.get(name), {"displayname": "Lena Holm"})
        self.refused(403, "M_FORBIDDEN", self.nora.put, name, {"displayname": "Not Lena"})
        self.refused(400, "M_BAD_JSON", lena.put, name, {"displayname": "x" * 257})
        deadline = time.monotonic() + 10
        while "displayname" not in state_of(lena, room_id, "m.room.member", lena.user_id):
            self.assertLess(time.monotonic(), deadline)
        second = lena.create_room()
        self.assertEqual(
            state_of(lena, second, "m.room.member", lena.user_id), {"membership": "join", "displayname": "Lena Holm"}
        )
        self.assertEqual(self.sara.get(name), {"displayname": "Lena Holm"})

    def test_sizes_at_the_limit(self):
        room_id = self.nora.create_room()
        self.nora.send(room_id, "x" * 60000)
        self.refused(413, "M_TOO_LARGE", self.nora.send, room_id, "x" * 66000)
        key = f"rooms/{quote(room_id)}/state/x.thing/"
        self.nora.put(key + "k" * 255, {})
        self.refused(413, "M_TOO_LARGE", self.nora.put, key + "k" * 256, {})
        self.refused(400, "M_BAD_JSON", self.nora.put, key + "f", {"half": 0.5})

    def test_a_room_has_names_and_stands_in_the_directory(self):
        room_id = self.nora.create_room(preset="public_chat", visibility="public", name="Quay", room_alias_name="quay")
        alias = "#quay:north.example"
        path = f"directory/room/{quote(alias)}"
        self.assertEqual(self.nils.get(path), {"room_id": room_id, "servers": ["north.example"]})
        self.assertEqual(state_of(self.nora, room_id, "m.room.canonical_alias"), {"alias": alias})
        self.refused(400, "M_ROOM_IN_USE", self.nils.post, "createRoom", {"room_alias_name": "quay"})
        self.refused(400, "M_INVALID_PARAM", self.nils.post, "createRoom", {"room_alias_name": "a:b"})
        self.refused(409, "M_UNKNOWN", self.nora.put, path, {"room_id": room_id})
        self.refused(404, "M_NOT_FOUND", self.nils.join, "#nowhere:north.example")
        self.assertEqual(self.nils.join(alias)["room_id"], room_id)
        listed = {room["room_id"]: room for room in self.sara.get("publicRooms", server="north.example")["chunk"]}
        self.assertEqual(listed[room_id]["name"], "Quay")
        self.assertEqual(listed[room_id]["canonical_alias"], alias)
        self.assertEqual(listed[room_id]["num_joined_members"], 2)
        self.assertEqual(self.nils.post("publicRooms", {"filter": {"generic_search_term": "QUAY"}})["chunk"][0], listed[room_id])
        self.assertEqual(self.nils.post("publicRooms", {"filter": {"generic_search_term": "no such"}})["chunk"], [])
        # A partner's people find it by its name, and so does who joins.
        self.assertEqual(self.sara.get(path)["room_id"], room_id)
        self.assertEqual(self.sara.join(alias)["room_id"], room_id)
        # Whose name it is not may not take it away.
        self.refused(403, "M_FORBIDDEN", self.nils.request, "DELETE", "/_matrix/client/v3/" + path)
        self.refused(403, "M_FORBIDDEN", self.nils.put, f"directory/list/room/{quote(room_id)}", {"visibility": "private"})
        self.refused(400, "M_INVALID_PARAM", self.nora.put, f"directory/room/{quote('#x:south.example')}", {"room_id": room_id})
        self.nora.put(f"directory/list/room/{quote(room_id)}", {"visibility": "private"})
        self.assertNotIn(room_id, str(self.nora.get("publicRooms")))
        self.assertEqual(self.nora.get(f"rooms/{quote(room_id)}/aliases"), {"aliases": [alias]})
        self.nora.request("DELETE", "/_matrix/client/v3/" + path)
        self.refused(404, "M_NOT_FOUND", self.nora.get, path)

    def test_many_want_a_name(self):
        """Of many who want it at the same time one has it, and the others' rooms never were."""
        name = f"wanted{time.monotonic_ns()}"
        before = len(self.nora.get("joined_rooms")["joined_rooms"])
        outcomes = []

        def take():
            client = Client(self.north.url, self.north.authority, self.nora.access_token)
            try:
                outcomes.append(client.create_room(room_alias_name=name))
            except Refused as refusal:
                outcomes.append(refusal.errcode)

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(outcomes.count("M_ROOM_IN_USE"), 5)
        self.assertEqual(len(self.nora.get("joined_rooms")["joined_rooms"]), before + 1)

    def relate(self, client, room_id, parent, rel_type, body, kind="m.room.message"):
        client.transaction += 1
        content = {"body": body, "msgtype": "m.text", "m.relates_to": {"rel_type": rel_type, "event_id": parent}}
        path = f"rooms/{quote(room_id)}/send/{kind}/relation{time.monotonic_ns()}"
        return client.put(path, content)["event_id"]

    def test_threads_and_edits_are_told_with_their_events(self):
        room_id = self.nora.create_room(invite=[self.nils.user_id])
        path = f"rooms/{quote(room_id)}"
        self.nils.join(room_id)
        root = self.nora.send(room_id, "where do we meet")
        replies = [self.relate(self.nils, room_id, root, "m.thread", f"reply {number}") for number in range(5)]
        edit = self.relate(self.nora, room_id, root, "m.replace", "* where shall we meet")
        self.relate(self.nils, room_id, root, "m.replace", "* not my message")
        told = self.nora.get(f"{path}/event/{quote(root)}")["unsigned"]["m.relations"]
        self.assertEqual(told["m.replace"]["event_id"], edit)
        self.assertEqual(told["m.thread"]["count"], 5)
        self.assertEqual(told["m.thread"]["latest_event"]["event_id"], replies[-1])
        self.assertFalse(told["m.thread"]["current_user_participated"])

        def page(client, part, **query):
            names = "&".join(f"{key}={quote(str(value))}" for key, value in query.items())
            return client.request("GET", f"/_matrix/client/v1/{path}/{part}?{names}")

        first = page(self.nora, f"relations/{quote(root)}/m.thread", limit=3)
        self.assertEqual([event["event_id"] for event in first["chunk"]], replies[:1:-1])
        second = page(self.nora, f"relations/{quote(root)}/m.thread", limit=3, **{"from": first["next_batch"]})
        self.assertEqual([event["event_id"] for event in second["chunk"]], replies[1::-1])
        self.assertNotIn("next_batch", second)
        forwards = page(self.nora, f"relations/{quote(root)}/m.thread/m.room.message", dir="f")
        self.assertEqual([event["event_id"] for event in forwards["chunk"]], replies)
        self.assertEqual(page(self.nora, f"relations/{quote(root)}/m.thread/m.sticker")["chunk"], [])
        self.assertEqual(len(page(self.nora, f"relations/{quote(root)}")["chunk"]), 7)
        other = self.nora.send(room_id, "and when")
        self.relate(self.nils, room_id, other, "m.thread", "at nine")
        threads = page(self.nils, "threads", limit=1)
        self.assertEqual([event["event_id"] for event in threads["chunk"]], [other])
        more = page(self.nils, "threads", **{"from": threads["next_batch"]})
        self.assertEqual([event["event_id"] for event in more["chunk"]], [root])
        # Who has left is not told what was said since.
        self.nils.leave(room_id)
        self.relate(self.nora, room_id, root, "m.thread", "now that he is gone")
        shown = self.nils.get(f"{path}/messages", dir="b", limit=50)
        self.assertNotIn("now that he is gone", str(shown))
        self.assertNotIn("now that he is gone", str(self.nils.get(f"{path}/event/{quote(root)}")))
        self.nora.invite(room_id, self.nils.user_id)
        self.nils.join(room_id)
        replies.append(page(self.nora, f"relations/{quote(root)}/m.thread", limit=1)["chunk"][0]["event_id"])
        # What was redacted is no reply any more.
        self.nils.put(f"{path}/redact/{quote(replies[0])}/rr", {})
        forwards = page(self.nora, f"relations/{quote(root)}/m.thread", dir="f")
        self.assertEqual([event["event_id"] for event in forwards["chunk"]], replies[1:])
        lena = self.north.register("lenastrange")
        self.refused(403, "M_FORBIDDEN", page, lena, f"relations/{quote(root)}")

    def test_people_rooms_and_moments_are_found(self):
        name = f"profile/{quote(self.nils.user_id)}/displayname"
        self.nils.put(name, {"displayname": "Nils Holgersson"})
        search = lambda term, **more: self.nora.post("user_directory/search", {"search_term": term, **more})
        self.assertEqual([person["user_id"] for person in search("HOLGER")["results"]], [self.nils.user_id])
        self.assertTrue(search("", limit=1)["limited"])
        self.assertEqual(search("nobody of that name")["results"], [])
        self.refused(400, "M_BAD_JSON", self.nora.post, "user_directory/search", {})
        room_id = self.nora.create_room(preset="public_chat", name="Square")
        hidden = self.nora.create_room(name="Cellar")
        summary = lambda client, room: client.request("GET", f"/_matrix/client/v1/room_summary/{quote(room)}")
        self.assertEqual(summary(self.nils, room_id)["name"], "Square")
        self.assertEqual(summary(self.nora, hidden)["membership"], "join")
        self.refused(404, "M_NOT_FOUND", summary, self.nils, hidden)
        first, second = self.nora.send(room_id, "first"), self.nora.send(room_id, "second")
        path = f"/_matrix/client/v1/rooms/{quote(room_id)}/timestamp_to_event"
        sent_ts = self.nora.get(f"rooms/{quote(room_id)}/event/{quote(first)}")["origin_server_ts"]
        found = self.nora.request("GET", f"{path}?dir=b&ts={sent_ts + 3600000}")
        self.assertEqual(found["event_id"], second)
        self.refused(404, "M_NOT_FOUND", self.nora.request, "GET", f"{path}?dir=f&ts={sent_ts + 3600000}")
        self.refused(403, "M_FORBIDDEN", self.sara.request, "GET", f"{path}?dir=b&ts={sent_ts}")

    # ---- across ----

    def both_in(self, **body):
        room_id = self.nora.create_room(invite=[self.sara.user_id], **body)
        self.sara.wait_invited(room_id)
        self.sara.join(room_id)
        return room_id

    def test_an_invite_across_and_words_both_ways(self):
        room_id = self.both_in()
        self.sara.wait_event(room_id, self.nora.send(room_id, "welcome"))
        self.nora.wait_event(room_id, self.sara.send(room_id, "thank you"))
        page = self.sara.get(f"rooms/{quote(room_id)}/messages", dir="b", limit=100)
        self.assertEqual(bodies(page)[:2], ["thank you", "welcome"])
        self.assertEqual(page["chunk"][-1]["type"], "m.room.create")
        self.sara.leave(room_id)
        self.nora.sync_until(
            lambda answer: state_of(self.nora, room_id, "m.room.member", self.sara.user_id)["membership"] == "leave"
        )

    def test_an_invite_across_is_turned_down(self):
        room_id = self.nora.create_room(invite=[self.sara.user_id])
        self.sara.wait_invited(room_id)
        self.sara.leave(room_id)
        self.sara.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("leave", {}))
        self.assertNotIn(room_id, self.sara.sync().get("rooms", {}).get("leave", {}))
        self.refused(404, "M_NOT_FOUND", self.sara.join, room_id)
        self.assertEqual(state_of(self.nora, room_id, "m.room.member", self.sara.user_id)["membership"], "leave")

    def test_who_left_from_afar_comes_back(self):
        room_id = self.both_in()
        self.nora.wait_event(room_id, self.sara.send(room_id, "I was here"))
        self.sara.leave(room_id)
        self.nora.sync_until(
            lambda answer: state_of(self.nora, room_id, "m.room.member", self.sara.user_id)["membership"] == "leave"
        )
        missed = self.nora.send(room_id, "while she was away")
        self.nora.invite(room_id, self.sara.user_id)
        self.sara.wait_invited(room_id)
        self.sara.join(room_id)
        self.sara.wait_event(room_id, self.nora.send(room_id, "welcome back"))
        self.nora.wait_event(room_id, self.sara.send(room_id, "good to be back"))
        seen = [event["event_id"] for event in self.pages(self.sara, room_id, "b", 20)]
        self.assertEqual(len(seen), len(set(seen)))
        self.assertIn(missed, seen)

    def test_an_invite_across_is_taken_back(self):
        room_id = self.nora.create_room(invite=[self.sara.user_id])
        self.sara.wait_invited(room_id)
        self.nora.post(f"rooms/{quote(room_id)}/kick", {"user_id": self.sara.user_id})
        self.sara.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("leave", {}))
        self.assertNotIn(room_id, self.sara.get("sync")["rooms"]["invite"])

    def test_members_of_one_room_come_into_another(self):
        hall = self.both_in()
        rules = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": hall}]}
        room_id = self.nora.create_room(
            initial_state=[{"type": "m.room.join_rules", "content": rules}], preset="private_chat"
        )
        self.refused(403, "M_FORBIDDEN", self.nils.join, room_id)
        by_own_word = {"membership": "join", "join_authorised_via_users_server": self.nora.user_id}
        own_member = f"rooms/{quote(room_id)}/state/m.room.member/{quote(self.nils.user_id)}"
        self.refused(403, "M_FORBIDDEN", self.nils.put, own_member, by_own_word)
        self.nora.invite(hall, self.nils.user_id)
        self.nils.join(hall)
        self.nils.join(room_id)
        member = state_of(self.nora, room_id, "m.room.member", self.nils.user_id)
        self.assertEqual(member["join_authorised_via_users_server"], self.nora.user_id)
        # From another server, by the word of one of ours.
        self.sara.join(room_id, via=["north.example"])
        self.nora.wait_event(room_id, self.sara.send(room_id, "in by the hall"))
        sven = self.south.register("sven")
        self.refused(403, "M_FORBIDDEN", sven.join, room_id)

    def test_a_public_room_is_joined_by_its_server(self):
        room_id = self.nora.create_room(preset="public_chat")
        self.refused(404, "M_NOT_FOUND", self.sara.join, room_id)
        self.sara.join(room_id, via=["north.example"])
        self.assertTrue(self.in_room(self.sara, room_id))
        self.nora.post(f"rooms/{quote(room_id)}/ban", {"user_id": self.sara.user_id})
        deadline = time.monotonic() + 20
        while self.in_room(self.sara, room_id):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.refused(403, "M_FORBIDDEN", self.sara.send, room_id, "still here?")
        self.refused(403, "M_FORBIDDEN", self.sara.join, room_id, via=["north.example"])

    def test_trusted_friends_are_creators_too(self):
        room_id = self.both_in(preset="trusted_private_chat", is_direct=True)
        self.assertEqual(state_of(self.sara, room_id, "m.room.create")["additional_creators"], [self.sara.user_id])
        self.sara.put(f"rooms/{quote(room_id)}/state/m.room.name", {"name": "ours"})
        member = self.nora.get(f"rooms/{quote(room_id)}/members")["chunk"]
        self.assertEqual({event["state_key"] for event in member}, {self.nora.user_id, self.sara.user_id})


if __name__ == "__main__":
    tap.main()
