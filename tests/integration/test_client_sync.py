"""GET /sync: what a device is told, when, and once."""

import concurrent.futures
import json

from harness import tap
from harness.matrix import Parked, Refused, quote
from harness.plain import ThreePeople, at_once


def joined(answer, room_id):
    return answer.get("rooms", {}).get("join", {}).get(room_id)


def event_ids(section):
    return [event["event_id"] for event in section["events"]]


def state_of(section, event_type, state_key=""):
    for event in section["events"]:
        if (event["type"], event.get("state_key")) == (event_type, state_key):
            return event["content"]
    return None


class Sync(ThreePeople):
    # ---- what comes, and in which order ----

    def test_initial(self):
        """an initial sync tells the room once: state that is in the timeline is not told beside it"""
        room_id = self.hall(name="Hall", topic="Talk")
        answer = self.anna.sync_with()
        room = joined(answer, room_id)
        types = [event["type"] for event in room["timeline"]["events"]]
        self.assertEqual(types[:2], ["m.room.create", "m.room.member"])
        self.assertIn("m.room.topic", types)
        self.assertEqual(room["state"]["events"], [])
        self.assertFalse(room["timeline"]["limited"])
        self.assertEqual(room["summary"]["m.joined_member_count"], 1)
        self.assertEqual(room["unread_notifications"], {"highlight_count": 0, "notification_count": 0})
        self.assertEqual(answer["device_one_time_keys_count"], {"signed_curve25519": 0})
        # With a timeline of one event the rest comes as state, each entry once.
        room = joined(self.anna.sync_with(filter='{"room":{"timeline":{"limit":1}}}'), room_id)
        self.assertEqual(len(room["timeline"]["events"]), 1)
        self.assertTrue(room["timeline"]["limited"])
        keys = [(event["type"], event["state_key"]) for event in room["state"]["events"]]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertIn(("m.room.create", ""), keys)

    def test_incremental(self):
        """each event comes in one sync, in the order of sending, with the sender's transaction id for the sender"""
        room_id = self.hall(self.berta)
        self.anna.catch_up(), self.berta.catch_up()
        first = self.anna.send(room_id, "one", "t-one")
        second = self.berta.send(room_id, "two")
        room = joined(self.anna.sync(), room_id)
        self.assertEqual(event_ids(room["timeline"]), [first, second])
        self.assertFalse(room["timeline"]["limited"])
        self.assertEqual(room["timeline"]["events"][0]["unsigned"]["transaction_id"], "t-one")
        self.assertNotIn("transaction_id", room["timeline"]["events"][1]["unsigned"])
        self.assertGreaterEqual(room["timeline"]["events"][0]["unsigned"]["age"], 0)
        self.assertIsNone(joined(self.anna.sync(), room_id))
        room = joined(self.berta.sync(), room_id)
        self.assertEqual(event_ids(room["timeline"]), [first, second])
        self.assertNotIn("transaction_id", room["timeline"]["events"][0]["unsigned"])

    def test_same_token_again(self):
        """a token can be used again: a lost answer is told once more, alike"""
        room_id = self.hall(self.berta)
        self.anna.catch_up()
        sent = [self.berta.send(room_id, f"{i}") for i in range(3)]
        for _ in range(2):
            room = joined(self.anna.sync_with(since=self.anna.since), room_id)
            self.assertEqual(event_ids(room["timeline"]), sent)

    def test_bad_parameters(self):
        """a token, a timeout or a filter that is none is refused with 400"""
        for query in (
            {"since": "nonsense"}, {"since": "s1_2"}, {"since": "s1_-5_0_0"}, {"since": "s1_999999999_0_0"},
            {"since": "s99_1_0_0"}, {"since": "s1_99999999999999999999999_0_0"}, {"since": "s1_1_0_0x"},
            {"timeout": "soon"}, {"timeout": "-1"}, {"filter": "{"}, {"filter": '{"room":3}'},
        ):  # fmt: skip
            status, errcode = self.anna.refused("GET", "sync", **query)
            self.assertEqual(status, 400, query)
            self.assertIn(errcode, ("M_INVALID_PARAM", "M_BAD_JSON", "M_NOT_JSON"), query)
        self.assertEqual(self.anna.refused("GET", "sync", filter="unknown")[0], 404)

    # ---- waiting ----

    def test_woken_by_a_message(self):
        """a waiting sync is answered by the message that comes, and by what stands beside it"""
        room_id = self.hall(self.berta)
        self.anna.catch_up()
        parked = Parked(self.anna)
        sent = self.berta.send(room_id, "wake up")
        answer = parked.result()
        self.assertEqual(event_ids(joined(answer, room_id)["timeline"]), [sent])
        self.assertEqual(joined(answer, room_id)["unread_notifications"]["notification_count"], 1)

    def test_one_wait_a_device(self):
        """a newer sync of the device ends the older one's wait with an empty answer; other devices wait on"""
        other = self.server.login(self.anna)
        other.catch_up(), self.anna.catch_up()
        elsewhere = Parked(other)
        here = Parked(self.anna)
        self.assertNotIn("join", here.older.get("rooms", {}))
        self.assertTrue(elsewhere.is_waiting())
        self.assertTrue(here.is_waiting())
        room_id = self.hall()
        self.assertIsNotNone(joined(here.result(), room_id))
        self.assertIsNotNone(joined(elsewhere.result(), room_id))

    def test_not_woken_by_others(self):
        """what does not concern the user wakes nobody: the next thing told is the first that does"""
        foreign = self.berta.create_room()
        room_id = self.hall()
        self.anna.catch_up()
        parked = Parked(self.anna)
        for i in range(5):
            self.berta.send(foreign, f"{i}")
        self.assertTrue(parked.is_waiting())
        sent = self.anna.send(room_id, "mine")
        answer = parked.result()
        self.assertEqual(list(answer["rooms"]["join"]), [room_id])
        self.assertEqual(event_ids(joined(answer, room_id)["timeline"]), [sent])

    def test_empty_when_time_is_up(self):
        """a wait that ends with its time gives a token that goes on from there"""
        room_id = self.hall()
        self.anna.catch_up()
        answer = self.anna.sync(timeout_ms=1)
        self.assertFalse(answer.get("rooms", {}).get("join"))
        sent = self.anna.send(room_id, "later")
        self.assertEqual(event_ids(joined(self.anna.sync(), room_id)["timeline"]), [sent])

    def test_logout_ends_the_wait(self):
        """the end of a session ends its wait with 401 M_UNKNOWN_TOKEN"""
        for end in ("logout", "logout/all"):
            person = self.server.register("leaver" + end.replace("/", "-"))
            other = self.server.login(person)
            person.catch_up(), other.catch_up()
            parked, beside = Parked(person), Parked(other)
            person.twin().post(end, {})
            with self.assertRaises(Refused) as caught:
                parked.result()
            self.assertEqual((caught.exception.status, caught.exception.errcode), (401, "M_UNKNOWN_TOKEN"))
            self.assertFalse(caught.exception.body["soft_logout"])
            if end == "logout/all":
                with self.assertRaises(Refused) as caught:
                    beside.result()
                self.assertEqual(caught.exception.status, 401)
            else:  # the other device learns that one is gone
                self.assertEqual(beside.result()["device_lists"]["changed"], [person.user_id])

    def test_all_at_once(self):
        """devices that wait while people talk, type, read, rename and come and go: each has every event, once, in order"""
        people = [self.server.register(f"talker{i}") for i in range(3)]
        rooms = []
        for owner in people[:2]:
            room_id = owner.create_room(invite=[person.user_id for person in people if person is not owner])
            for person in people:
                if person is not owner:
                    person.join(room_id)
            rooms.append(room_id)
        devices = people + [self.server.login(person) for person in people]
        for device in devices:
            device.catch_up()
        sent = {room_id: [] for room_id in rooms}

        def talk(person, room_id):
            client, mine, room = person.twin(), [], f"rooms/{quote(room_id)}"
            for i in range(30):
                mine.append(client.send(room_id, f"{person.user_id} {i}"))
                if i % 7 == 1:
                    client.put(f"{room}/typing/{quote(client.user_id)}", {"typing": True, "timeout": 20000})
                if i % 7 == 3:
                    client.post(f"{room}/receipt/m.read/{quote(mine[-1])}", {})
                if i % 10 == 5:
                    mine.append(
                        client.state(room_id, "m.room.member", {"membership": "join", "displayname": f"No. {i}"},
                                     client.user_id)
                    )  # fmt: skip
            sent[room_id] += mine

        ends = {}

        def listen(device):
            client, got, unread = device.twin(), {room_id: [] for room_id in rooms}, {}
            client.since = device.since
            while not all(ends.get(room_id) in got[room_id] for room_id in rooms):
                answer = client.sync_with(since=client.since, timeout=30000, filter='{"room":{"timeline":{"limit":100}}}')
                client.since = answer["next_batch"]
                for room_id in rooms:
                    room = joined(answer, room_id)
                    if room:
                        self.assertFalse(room["timeline"]["limited"])
                        got[room_id] += event_ids(room["timeline"])
                        unread[room_id] = room["unread_notifications"]
            # What was counted step by step is what counting anew gives.
            anew = client.sync_with()
            for room_id in rooms:
                self.assertEqual(unread[room_id], joined(anew, room_id)["unread_notifications"])
            return got

        with concurrent.futures.ThreadPoolExecutor(len(devices)) as pool:
            listeners = [pool.submit(listen, device) for device in devices]
            at_once(*[lambda p=person, r=room_id: talk(p, r) for person in people for room_id in rooms])
            for room_id in rooms:  # one last event each, by which all listeners know that they have all
                ends[room_id] = people[0].send(room_id, "the end", "end-" + room_id[1:9])
                sent[room_id].append(ends[room_id])
            heard = [listener.result(120) for listener in listeners]
        for room_id in rooms:
            for got in heard:
                self.assertEqual(got[room_id], heard[0][room_id])
            self.assertEqual(len(heard[0][room_id]), len(set(heard[0][room_id])))
            self.assertEqual(set(heard[0][room_id]), set(sent[room_id]))

    # ---- gaps ----

    def page_back(self, person, room_id, token, limit):
        """All that /messages gives from @token backwards, newest first."""
        found = []
        while token:
            page = person.messages(room_id, **{"from": token, "dir": "b", "limit": limit})
            self.assertLessEqual(len(page["chunk"]), limit)
            found += [event["event_id"] for event in page["chunk"]]
            token = page.get("end")
        return found

    def test_limited(self):
        """after a gap, prev_batch leads back over everything: no event twice, none missing"""
        room_id = self.hall(self.berta)
        self.anna.catch_up()
        everything = [self.berta.send(room_id, f"{i}") for i in range(25)]
        for limit, limited in ((1, True), (24, True), (25, False), (26, False)):
            answer = self.anna.sync_with(
                since=self.anna.since, filter=f'{{"room":{{"timeline":{{"limit":{limit}}}}}}}'
            )
            timeline = joined(answer, room_id)["timeline"]
            self.assertEqual(event_ids(timeline), everything[-limit:])
            self.assertEqual(timeline["limited"], limited, limit)
        answer = self.anna.sync_with(since=self.anna.since, filter='{"room":{"timeline":{"limit":10}}}')
        timeline = joined(answer, room_id)["timeline"]
        for limit in (1, 7, 100):
            back = self.page_back(self.anna, room_id, timeline["prev_batch"], limit)
            whole = list(reversed(back)) + event_ids(timeline)
            self.assertEqual(whole[-25:], everything)
            self.assertEqual(len(whole), len(set(whole)))
            first = self.anna.get(f"rooms/{quote(room_id)}/event/{quote(whole[0])}")
            self.assertEqual(first["type"], "m.room.create")

    def test_state_in_the_gap(self):
        """after a gap the state before the timeline is told, or the state after it, under the name asked for"""
        room_id = self.hall(self.berta)
        self.anna.catch_up()
        self.anna.state(room_id, "m.room.topic", {"topic": "in the gap"})
        messages = [self.anna.send(room_id, f"{i}") for i in range(2)]
        self.anna.state(room_id, "m.room.name", {"name": "in the timeline"})
        narrow = {"since": self.anna.since, "filter": '{"room":{"timeline":{"limit":2}}}'}
        room = joined(self.anna.sync_with(**narrow), room_id)
        self.assertEqual(event_ids(room["timeline"])[0], messages[1])
        self.assertEqual(state_of(room["state"], "m.room.topic"), {"topic": "in the gap"})
        self.assertIsNone(state_of(room["state"], "m.room.name"))
        self.assertEqual(len(room["state"]["events"]), 1)
        for parameter, name in (
            ("use_state_after", "state_after"),
            ("org.matrix.msc4222.use_state_after", "org.matrix.msc4222.state_after"),
        ):
            room = joined(self.anna.sync_with(**narrow, **{parameter: "true"}), room_id)
            self.assertNotIn("state", room)
            self.assertEqual(state_of(room[name], "m.room.topic"), {"topic": "in the gap"})
            self.assertEqual(state_of(room[name], "m.room.name"), {"name": "in the timeline"})
            self.assertEqual(len(room[name]["events"]), 2)
        # Nothing changed: the section is there all the same.
        self.anna.catch_up()
        self.anna.send(room_id, "more")
        room = joined(self.anna.sync_with(since=self.anna.since, use_state_after="true"), room_id)
        self.assertEqual(room["state_after"], {"events": []})

    def test_prev_content(self):
        """a state event that replaced another says what it replaced"""
        room_id = self.hall(self.berta, topic="old")
        self.anna.catch_up()
        self.anna.state(room_id, "m.room.topic", {"topic": "new"})
        event = joined(self.anna.sync(), room_id)["timeline"]["events"][0]
        self.assertEqual(event["unsigned"]["prev_content"]["topic"], "old")
        self.assertEqual(event["unsigned"]["prev_sender"], self.anna.user_id)
        replaced = event["unsigned"]["replaces_state"]
        old = self.anna.get(f"rooms/{quote(room_id)}/event/{quote(replaced)}")
        self.assertEqual(old["content"], event["unsigned"]["prev_content"])
        self.assertNotIn("prev_content", old["unsigned"])
        self.berta.leave(room_id)
        event = joined(self.anna.sync(), room_id)["timeline"]["events"][0]
        self.assertEqual(event["unsigned"]["prev_content"]["membership"], "join")

    def test_long_absence(self):
        """a device that was away for thousands of entries gets each room's newest part and all changed state"""
        room_id, quiet = self.hall(self.berta), self.hall(self.berta)
        elsewhere = self.berta.create_room()
        self.anna.catch_up()
        self.anna.twin().put(f"user/{quote(self.anna.user_id)}/account_data/com.example.x", {"a": 1})
        self.anna.state(room_id, "m.room.topic", {"topic": "changed"})
        left = self.hall(self.berta)
        self.anna.leave(left)
        sent = [self.berta.send(room_id, f"{i}") for i in range(30)]
        for _ in range(2100):
            self.berta.send(elsewhere, "noise")
        answer = self.anna.sync()
        room = joined(answer, room_id)
        self.assertTrue(room["timeline"]["limited"])
        self.assertEqual(event_ids(room["timeline"]), sent[-20:])
        self.assertEqual(state_of(room["state"], "m.room.topic"), {"topic": "changed"})
        self.assertIn(left, answer["rooms"]["leave"])
        self.assertIsNone(joined(answer, elsewhere))
        if joined(answer, quiet):
            self.assertEqual(joined(answer, quiet)["timeline"]["events"], [])
        self.assertIn("com.example.x", [event["type"] for event in answer["account_data"]["events"]])
        self.assertIn(self.berta.user_id, answer["device_lists"]["changed"])

    # ---- lazy members and filters ----

    def test_lazy_members(self):
        """with lazy members only the timeline's senders, the heroes and oneself come"""
        room_id = self.hall(self.berta, self.carl)
        crowd = [self.server.register(f"crowd{i}") for i in range(7)]
        for person in crowd:
            self.anna.invite(room_id, person.user_id)
            person.join(room_id)
        self.carl.send(room_id, "hello")
        lazy = '{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}'
        room = joined(self.anna.sync_with(filter=lazy), room_id)
        members = {event["state_key"] for event in room["state"]["events"] if event["type"] == "m.room.member"}
        heroes = room["summary"]["m.heroes"]
        self.assertEqual(len(heroes), 5)
        self.assertNotIn(self.anna.user_id, heroes)
        self.assertEqual(members, {self.anna.user_id, self.carl.user_id, *heroes})
        self.assertEqual(room["summary"]["m.joined_member_count"], 10)
        self.anna.catch_up()
        parked = Parked(self.anna, filter=lazy)
        self.carl.send(room_id, "hello too")
        room = joined(parked.result(), room_id)
        members = {event["state_key"] for event in room["state"]["events"]}
        self.assertEqual(members, {self.carl.user_id})
        all_members = self.anna.get(f"rooms/{quote(room_id)}/members")["chunk"]
        self.assertEqual(len(all_members), 10)
        # A ban is told as state after the timeline, for clients that take no state out of it.
        self.anna.catch_up()
        self.anna.post(f"rooms/{quote(room_id)}/ban", {"user_id": crowd[6].user_id})
        room = joined(self.anna.sync_with(since=self.anna.since, filter=lazy, use_state_after="true"), room_id)
        self.assertEqual(state_of(room["state_after"], "m.room.member", crowd[6].user_id)["membership"], "ban")
        self.assertEqual(room["summary"]["m.joined_member_count"], 9)

    def test_heroes_who_left(self):
        """a room whose others have all gone is still named after them"""
        room_id = self.hall(self.berta)
        self.berta.leave(room_id)
        for lazy in ("true", "false"):
            room = joined(
                self.anna.sync_with(filter='{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":%s}}}' % lazy),
                room_id,
            )
            self.assertEqual(room["summary"]["m.heroes"], [self.berta.user_id])
            self.assertEqual(room["summary"]["m.joined_member_count"], 1)
            told = room["state"]["events"] + room["timeline"]["events"]
            self.assertIsNotNone(state_of({"events": told}, "m.room.member", self.berta.user_id))

    def test_filters(self):
        """a filter's types, senders and rooms narrow what comes; wanting nothing gives nothing"""
        room_id, other = self.hall(self.berta), self.hall(self.berta)
        self.anna.catch_up()
        hello = self.berta.send(room_id, "hello")
        own = self.anna.send(room_id, "own")
        self.anna.state(room_id, "m.room.topic", {"topic": "x"})
        self.berta.send(other, "other")

        def synced(text):
            return self.anna.sync_with(since=self.anna.since, filter=text)

        room = joined(synced('{"room":{"timeline":{"types":["m.room.mess*"]}}}'), room_id)
        self.assertEqual(event_ids(room["timeline"]), [hello, own])
        room = joined(synced('{"room":{"timeline":{"not_senders":["%s"]}}}' % self.anna.user_id), room_id)
        self.assertEqual(event_ids(room["timeline"]), [hello])
        answer = synced('{"room":{"rooms":["%s"]}}' % other)
        self.assertEqual(list(answer["rooms"]["join"]), [other])
        answer = synced('{"room":{"not_rooms":["%s"]}}' % other)
        self.assertEqual(list(answer["rooms"]["join"]), [room_id])
        answer = synced('{"room":{"rooms":[]}}')
        self.assertFalse(answer.get("rooms", {}).get("join"))
        stored = self.anna.post(
            f"user/{quote(self.anna.user_id)}/filter", {"room": {"timeline": {"types": ["m.room.topic"]}}}
        )["filter_id"]
        room = joined(synced(stored), room_id)
        self.assertEqual([event["type"] for event in room["timeline"]["events"]], ["m.room.topic"])

    def test_filtered_wait(self):
        """a wait goes on over what the filter hides, and its token has passed that"""
        room_id = self.hall(self.berta)
        self.anna.catch_up()
        parked = Parked(self.anna, filter='{"room":{"timeline":{"types":["com.example.wanted"]}}}')
        self.berta.send(room_id, "hidden")
        self.berta.put(f"rooms/{quote(room_id)}/send/com.example.wanted/w{room_id[1:9]}", {})
        room = joined(parked.result(), room_id)
        self.assertEqual([event["type"] for event in room["timeline"]["events"]], ["com.example.wanted"])

    # ---- memberships ----

    def test_invite_and_join(self):
        """an invite comes with stripped state; after the join the room comes whole"""
        self.berta.catch_up()
        parked = Parked(self.berta)
        room_id = self.anna.create_room(name="Cellar", invite=[self.berta.user_id])
        answer = parked.result()
        self.berta.since = answer["next_batch"]
        invite = answer["rooms"]["invite"][room_id]["invite_state"]
        self.assertEqual(state_of(invite, "m.room.name"), {"name": "Cellar"})
        self.assertEqual(state_of(invite, "m.room.member", self.berta.user_id)["membership"], "invite")
        self.assertEqual(state_of(invite, "m.room.member", self.anna.user_id)["membership"], "join")
        self.assertIsNotNone(state_of(invite, "m.room.create"))
        self.assertIsNone(joined(answer, room_id))
        self.assertIn(room_id, self.berta.sync_with()["rooms"]["invite"])
        self.berta.join(room_id)
        answer = self.berta.sync()
        room = joined(answer, room_id)
        told = room["state"]["events"] + room["timeline"]["events"]
        self.assertEqual(state_of({"events": told}, "m.room.name"), {"name": "Cellar"})
        self.assertIsNotNone(state_of({"events": told}, "m.room.create"))
        self.assertEqual(state_of({"events": told}, "m.room.member", self.anna.user_id)["membership"], "join")
        self.assertIn(self.anna.user_id, answer["device_lists"]["changed"])
        self.assertNotIn(room_id, self.berta.sync_with()["rooms"]["invite"])
        sent = self.anna.send(room_id, "welcome")
        self.assertEqual(event_ids(joined(self.berta.sync(), room_id)["timeline"]), [sent])

    def test_ways_out(self):
        """leave, kick, ban and a refused invite each come once under leave, with the event; nothing after it"""
        for way in ("leave", "kick", "ban", "refuse", "withdraw"):
            room_id = self.anna.create_room(invite=[self.berta.user_id])
            if way not in ("refuse", "withdraw"):
                self.berta.join(room_id)
            self.berta.catch_up()
            before = self.anna.send(room_id, "before")
            if way in ("leave", "refuse"):
                self.berta.leave(room_id)
            else:
                verb = "kick" if way == "withdraw" else way
                self.anna.post(f"rooms/{quote(room_id)}/{verb}", {"user_id": self.berta.user_id, "reason": "why"})
            after = self.anna.send(room_id, "after")
            answer = self.berta.sync()
            self.assertIsNone(joined(answer, room_id), way)
            room = answer["rooms"]["leave"][room_id]
            events = room["timeline"]["events"]
            self.assertEqual(events[-1]["content"]["membership"], "ban" if way == "ban" else "leave", way)
            self.assertEqual(events[-1]["state_key"], self.berta.user_id)
            self.assertNotIn(after, event_ids(room["timeline"]))
            self.assertEqual(before in event_ids(room["timeline"]), way in ("leave", "kick", "ban"), way)
            answer = self.berta.sync()
            self.assertNotIn(room_id, answer.get("rooms", {}).get("leave", {}))
            answer = self.berta.sync_with()
            self.assertIsNone(joined(answer, room_id))
            self.assertNotIn(room_id, answer["rooms"]["leave"])
            answer = self.berta.sync_with(filter='{"room":{"include_leave":true}}')
            self.assertIn(room_id, answer["rooms"]["leave"])

    def test_out_without_having_been_in(self):
        """who refuses an invite, or is banned from outside or after leaving, is told of that alone, not of the room"""
        for way in ("refuse", "withdraw", "ban the stranger", "ban the invited", "ban who left"):
            room_id = self.anna.create_room(name="before")
            invited = way in ("refuse", "withdraw", "ban the invited", "ban who left")
            if invited:
                self.anna.invite(room_id, self.berta.user_id)
            if way == "ban who left":
                self.berta.join(room_id)
                self.berta.leave(room_id)
            self.berta.catch_up()
            since = self.berta.since
            self.anna.state(room_id, "m.room.topic", {"topic": "hemlock"})
            self.anna.send(room_id, "the code is swordfish")
            self.anna.invite(room_id, self.carl.user_id)
            if way == "refuse":
                self.berta.leave(room_id)
            else:
                verb = "kick" if way == "withdraw" else "ban"
                self.anna.post(f"rooms/{quote(room_id)}/{verb}", {"user_id": self.berta.user_id})
            for query in (
                {"since": since},
                {"since": since, "use_state_after": "true"},
                {"since": since, "full_state": "true"},
                {"filter": '{"room":{"include_leave":true}}'},
                {"filter": '{"room":{"include_leave":true}}', "use_state_after": "true"},
            ):
                room = self.berta.sync_with(**query)["rooms"]["leave"].get(room_id)
                text = json.dumps(room)
                for secret in ("hemlock", "swordfish", self.carl.user_id):
                    self.assertNotIn(secret, text, (way, query))
                if way == "ban who left" and "since" not in query:
                    self.assertIn("before", text)  # what they saw while they were there
                    continue
                told = room["timeline"]["events"] + room.get("state", room.get("state_after"))["events"]
                self.assertEqual(
                    {(event["type"], event.get("state_key")) for event in told},
                    {("m.room.member", self.berta.user_id)},
                    (way, query),
                )

    def test_leave_and_come_back(self):
        """who left and came back between two syncs, or rejoins later, misses no state and sees no secret"""
        room_id = self.hall(self.berta)
        self.anna.state(room_id, "m.room.history_visibility", {"history_visibility": "joined"})
        self.berta.catch_up()
        self.berta.leave(room_id)
        secret = self.anna.send(room_id, "secret")
        self.anna.state(room_id, "m.room.topic", {"topic": "while away"})
        self.anna.invite(room_id, self.berta.user_id)
        self.berta.join(room_id)
        welcome = self.anna.send(room_id, "welcome")
        room = joined(self.berta.sync(), room_id)
        self.assertIn(welcome, event_ids(room["timeline"]))
        self.assertNotIn(secret, event_ids(room["timeline"]))
        self.assertTrue(room["timeline"]["limited"])
        self.assertEqual(state_of(room["state"], "m.room.topic"), {"topic": "while away"})
        # A leave that was told, and a join after it: the room comes whole.
        self.berta.leave(room_id)
        self.berta.catch_up()
        self.anna.invite(room_id, self.berta.user_id)
        self.berta.join(room_id)
        room = joined(self.berta.sync(), room_id)
        self.assertIsNotNone(state_of(room["state"], "m.room.create"))

    def test_forget(self):
        """a forgotten room is told no more, not even with include_leave; one still joined is not forgotten"""
        room_id = self.hall(self.berta)
        self.assertEqual(self.berta.refused("POST", f"rooms/{quote(room_id)}/forget", {})[0], 400)
        self.berta.leave(room_id)
        self.berta.post(f"rooms/{quote(room_id)}/forget", {})
        answer = self.berta.sync_with(filter='{"room":{"include_leave":true}}')
        self.assertNotIn(room_id, answer["rooms"]["leave"])
        self.assertEqual(self.berta.refused("GET", f"rooms/{quote(room_id)}/messages", dir="b")[0], 403)

    def test_full_state(self):
        """full_state tells all state again, without waiting"""
        room_id = self.hall(self.berta, name="Hall")
        self.anna.catch_up()
        answer = self.anna.sync_with(since=self.anna.since, full_state="true", timeout=60000)
        room = joined(answer, room_id)
        self.assertEqual(room["timeline"]["events"], [])
        self.assertEqual(state_of(room["state"], "m.room.name"), {"name": "Hall"})
        self.assertIsNotNone(state_of(room["state"], "m.room.member", self.berta.user_id))

    def test_after_a_restart(self):
        """a token of before a restart goes on after it"""
        room_id = self.hall(self.berta)
        self.anna.catch_up()
        sent = [self.berta.send(room_id, "before")]
        self.assertEqual(self.server.stop(), 0)
        self.server.serve()
        for person in (self.anna, self.berta, self.carl):
            person.close()
            person.url = self.server.nobody().url
        sent.append(self.berta.send(room_id, "after"))
        self.assertEqual(event_ids(joined(self.anna.sync(), room_id)["timeline"]), sent)


tap.main()
