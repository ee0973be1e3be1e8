"""What clients keep with the server and tell each other beside events: account data, tags, filters, push rules,
receipts, markers, typing; on one server and across two."""

import time

from harness import tap
from harness.matrix import Parked, quote
from harness.two_servers import TwoServers


def joined(answer, room_id):
    return answer.get("rooms", {}).get("join", {}).get(room_id, {})


def events(part, key):
    return part.get(key, {}).get("events", [])


def global_data(answer):
    return {event["type"]: event["content"] for event in answer.get("account_data", {}).get("events", [])}


class ClientData(TwoServers):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nora, cls.nils = cls.north.register("nora"), cls.north.register("nils")
        cls.sara = cls.south.register("sara")

    def own(self, client, rest):
        return f"user/{quote(client.user_id)}/{rest}"

    def room_of_two(self, other, via=()):
        room_id = self.nora.create_room(preset="public_chat")
        other.join(room_id, via=via)
        self.nora.sync_until(
            lambda answer: any(
                event.get("state_key") == other.user_id
                for event in joined(answer, room_id).get("timeline", {}).get("events", [])
            )
        )
        return room_id

    # ---- account data ----

    def test_account_data_comes_back_and_wakes(self):
        """account data are kept as they were sent, and wake a waiting sync"""
        self.nora.sync()
        parked = Parked(self.nora)
        content = {"number": 1.5, "text": "ü", "list": [None, True]}
        self.nora.put(self.own(self.nora, "account_data/org.example.note"), content)
        self.assertEqual(global_data(parked.result())["org.example.note"], content)
        self.assertEqual(self.nora.get(self.own(self.nora, "account_data/org.example.note")), content)

    def test_account_data_of_others_stay_closed(self):
        """nobody reads or writes another one's account data"""
        path = self.own(self.nora, "account_data/org.example.mine")
        self.nora.put(path, {})
        self.refused(403, "M_FORBIDDEN", self.nils.get, path)
        self.refused(403, "M_FORBIDDEN", self.nils.put, path, {})
        self.refused(404, "M_NOT_FOUND", self.nora.get, self.own(self.nora, "account_data/org.example.none"))

    def test_types_with_their_own_endpoints_are_refused(self):
        """m.push_rules and m.fully_read are not set as account data"""
        for kind in ("m.push_rules", "m.fully_read"):
            self.refused(405, "M_BAD_JSON", self.nora.put, self.own(self.nora, f"account_data/{kind}"), {})
        self.refused(400, "M_INVALID_PARAM", self.nora.put, self.own(self.nora, "account_data/" + "t" * 256), {})
        self.nora.put(self.own(self.nora, "account_data/" + "t" * 255), {})

    def test_room_account_data_and_tags(self):
        """a room's account data and tags come in the room's part of sync"""
        room_id = self.nora.create_room()
        self.nora.sync()
        self.nora.put(self.own(self.nora, f"rooms/{quote(room_id)}/account_data/org.example.x"), {"a": 1})
        self.nora.put(self.own(self.nora, f"rooms/{quote(room_id)}/tags/u.work"), {"order": 0.5})
        found = {}

        def look(answer):
            for event in events(joined(answer, room_id), "account_data"):
                found[event["type"]] = event["content"]
            return len(found) == 2

        self.nora.sync_until(look)
        self.assertEqual(found, {"org.example.x": {"a": 1}, "m.tag": {"tags": {"u.work": {"order": 0.5}}}})
        path = self.own(self.nora, f"rooms/{quote(room_id)}/tags")
        self.assertEqual(self.nora.get(path)["tags"], {"u.work": {"order": 0.5}})
        self.nora.request("DELETE", f"/_matrix/client/v3/{path}/u.work")
        self.assertEqual(self.nora.get(path)["tags"], {})

    # ---- filters ----

    def test_filters(self):
        """a filter comes back as it was, by the same id for the same content, and is used by sync"""
        room_id = self.nora.create_room(name="named")
        for number in range(5):
            self.nora.send(room_id, f"message {number}")
        wanted = {"room": {"rooms": [room_id], "timeline": {"limit": 2, "types": ["m.room.message"]}}}
        first = self.nora.post(self.own(self.nora, "filter"), wanted)["filter_id"]
        self.assertEqual(self.nora.post(self.own(self.nora, "filter"), wanted)["filter_id"], first)
        self.assertEqual(self.nora.get(self.own(self.nora, f"filter/{first}")), wanted)
        answer = self.nora.get("sync", filter=first)
        self.assertEqual(list(answer["rooms"]["join"]), [room_id])
        timeline = joined(answer, room_id)["timeline"]
        self.assertEqual([event["content"]["body"] for event in timeline["events"]], ["message 3", "message 4"])
        self.assertTrue(timeline["limited"])
        self.refused(404, "M_NOT_FOUND", self.nora.get, "sync", filter="nonesuch")
        self.refused(404, "M_NOT_FOUND", self.nils.get, self.own(self.nils, f"filter/{first}"))
        self.refused(403, "M_FORBIDDEN", self.nils.get, self.own(self.nora, f"filter/{first}"))
        self.refused(400, "M_BAD_JSON", self.nora.post, self.own(self.nora, "filter"), {"room": {"timeline": 1}})
        self.refused(400, "M_NOT_JSON", self.nora.get, "sync", filter="{nonsense")

    # ---- push rules ----

    def test_push_rules(self):
        """the defaults are there; own rules go where they are asked to; sync tells of changes"""
        nell = self.north.register("nell")
        rules = nell.get("pushrules/")["global"]
        self.assertEqual(rules["override"][0]["rule_id"], ".m.rule.master")
        self.assertFalse(rules["override"][0]["enabled"])
        self.assertEqual(global_data(nell.sync())["m.push_rules"]["global"], rules)
        quiet = {"actions": [], "conditions": [{"kind": "event_match", "key": "type", "pattern": "m.x"}]}
        nell.put("pushrules/global/override/one", quiet)
        nell.put("pushrules/global/override/two", quiet)
        nell.put("pushrules/global/override/three?after=two", quiet)
        names = [rule["rule_id"] for rule in nell.get("pushrules/")["global"]["override"]]
        self.assertEqual(names[:4], [".m.rule.master", "two", "three", "one"])
        told = global_data(nell.sync(timeout_ms=5000))["m.push_rules"]["global"]["override"]
        self.assertEqual([rule["rule_id"] for rule in told], names)
        nell.put("pushrules/global/override/two/enabled", {"enabled": False})
        self.assertFalse(nell.get("pushrules/global/override/two/enabled")["enabled"])
        nell.put("pushrules/global/override/.m.rule.master/actions", {"actions": ["notify"]})
        self.assertEqual(nell.get("pushrules/global/override/.m.rule.master")["actions"], ["notify"])
        nell.request("DELETE", "/_matrix/client/v3/pushrules/global/override/one")
        self.refused(404, "M_NOT_FOUND", nell.get, "pushrules/global/override/one")
        self.refused(400, "M_INVALID_PARAM", nell.get, "pushrules/global/nonsense/one")
        self.refused(400, "M_INVALID_PARAM", nell.put, "pushrules/global/override/.own", quiet)
        self.refused(400, "M_BAD_JSON", nell.put, "pushrules/global/override/four", {"actions": "notify"})
        self.refused(400, "M_MISSING_PARAM", nell.put, "pushrules/global/content/four", {"actions": []})
        self.refused(400, "M_UNKNOWN", nell.put, "pushrules/global/override/four?before=nobody", quiet)

    # ---- receipts, markers, counts ----

    def test_unread_counts_and_receipts(self):
        """messages count until they are read; a mention highlights; the reader's receipt is told to the others"""
        room_id = self.room_of_two(self.nils)
        self.nils.sync()
        self.nora.send(room_id, "one")
        event_id = self.nora.put(
            f"rooms/{quote(room_id)}/send/m.room.message/m{time.monotonic_ns()}",
            {"msgtype": "m.text", "body": "two", "m.mentions": {"user_ids": [self.nils.user_id]}},
        )["event_id"]
        counts = {}

        def look(answer):
            counts.update(joined(answer, room_id).get("unread_notifications", {}))
            return counts.get("notification_count") == 2

        self.nils.sync_until(look)
        self.assertEqual(counts, {"notification_count": 2, "highlight_count": 1})
        self.nils.post(f"rooms/{quote(room_id)}/receipt/m.read/{quote(event_id)}", {})
        self.nils.sync_until(
            lambda answer: joined(answer, room_id).get("unread_notifications", {}).get("notification_count") == 0
        )
        receipts = self.nora.sync_until(lambda answer: self.receipts(answer, room_id))
        self.assertIn(self.nils.user_id, receipts[event_id]["m.read"])
        self.assertIsInstance(receipts[event_id]["m.read"][self.nils.user_id]["ts"], int)

    def test_the_whole_room_is_notified_by_who_may(self):
        """a mention of the room highlights where its sender has the power: a creator has, in every version; others not"""
        for version in ("1", "11", "12"):
            room_id = self.nora.create_room(preset="public_chat", room_version=version)
            self.nils.join(room_id)
            for sender, reader, highlights in ((self.nora, self.nils, 1), (self.nils, self.nora, 0)):
                reader.sync()
                sender.put(
                    f"rooms/{quote(room_id)}/send/m.room.message/m{time.monotonic_ns()}",
                    {"msgtype": "m.text", "body": "everybody", "m.mentions": {"room": True}},
                )
                counts = {}

                def look(answer):
                    counts.update(joined(answer, room_id).get("unread_notifications", {}))
                    return counts.get("notification_count") == 1

                reader.sync_until(look)
                self.assertEqual(counts["highlight_count"], highlights, (version, sender.user_id))

    def receipts(self, answer, room_id):
        found = [e["content"] for e in events(joined(answer, room_id), "ephemeral") if e["type"] == "m.receipt"]
        return found[0] if found else None

    def test_who_writes_has_read(self):
        """sending a message marks what was before it as read"""
        room_id = self.room_of_two(self.nils)
        self.nora.send(room_id, "one")
        self.nils.send(room_id, "answer")
        self.assertEqual(joined(self.nils.get("sync"), room_id)["unread_notifications"]["notification_count"], 0)
        self.nora.send(room_id, "two")
        self.assertEqual(joined(self.nils.get("sync"), room_id)["unread_notifications"]["notification_count"], 1)

    def test_a_quiet_room_does_not_count(self):
        """a room rule without actions silences the room"""
        room_id = self.room_of_two(self.nils)
        self.nils.put(f"pushrules/global/room/{quote(room_id)}", {"actions": []})
        self.nora.send(room_id, "hello?")
        self.assertEqual(joined(self.nils.get("sync"), room_id)["unread_notifications"]["notification_count"], 0)

    def test_private_receipts_stay_private(self):
        """m.read.private counts for its user and is shown to nobody else"""
        room_id = self.room_of_two(self.nils)
        event_id = self.nora.send(room_id, "one")
        self.nils.post(f"rooms/{quote(room_id)}/receipt/m.read.private/{quote(event_id)}", {})
        mine = joined(self.nils.get("sync"), room_id)
        self.assertEqual(mine["unread_notifications"]["notification_count"], 0)
        self.assertIn("m.read.private", self.receipts({"rooms": {"join": {room_id: mine}}}, room_id)[event_id])
        self.assertIsNone(self.receipts(self.nora.get("sync"), room_id))

    def test_a_receipt_does_not_go_back(self):
        """a receipt for an older event changes nothing"""
        room_id = self.room_of_two(self.nils)
        older, newer = self.nora.send(room_id, "one"), self.nora.send(room_id, "two")
        for event_id in (newer, older):
            self.nils.post(f"rooms/{quote(room_id)}/receipt/m.read/{quote(event_id)}", {})
        self.assertEqual(list(self.receipts(self.nora.get("sync"), room_id)), [newer])

    def test_read_markers(self):
        """read_markers sets the marker and the receipts at once"""
        room_id = self.room_of_two(self.nils)
        event_id = self.nora.send(room_id, "one")
        self.nils.post(f"rooms/{quote(room_id)}/read_markers", {"m.fully_read": event_id, "m.read": event_id})
        room = joined(self.nils.get("sync"), room_id)
        marker = [e["content"] for e in events(room, "account_data") if e["type"] == "m.fully_read"]
        self.assertEqual(marker, [{"event_id": event_id}])
        self.assertEqual(room["unread_notifications"]["notification_count"], 0)

    def test_bad_receipts(self):
        """receipts of strangers, of unknown events and of unknown kinds are refused"""
        room_id = self.nora.create_room()
        event_id = self.nora.send(room_id, "one")
        receipt = f"rooms/{quote(room_id)}/receipt"
        self.refused(403, "M_FORBIDDEN", self.nils.post, f"{receipt}/m.read/{quote(event_id)}", {})
        self.refused(404, "M_NOT_FOUND", self.nora.post, f"{receipt}/m.read/{quote('$none')}", {})
        self.refused(400, "M_INVALID_PARAM", self.nora.post, f"{receipt}/m.seen/{quote(event_id)}", {})
        self.refused(400, "M_INVALID_PARAM", self.nora.post, f"{receipt}/m.read/{quote(event_id)}", {"thread_id": ""})

    # ---- typing ----

    def typing(self, answer, room_id):
        found = [e["content"]["user_ids"] for e in events(joined(answer, room_id), "ephemeral") if e["type"] == "m.typing"]
        return found[0] if found else None

    def test_typing_begins_and_ends(self):
        """typing is told at once and ends by itself"""
        room_id = self.room_of_two(self.nils)
        self.nils.sync()
        path = f"rooms/{quote(room_id)}/typing/{quote(self.nora.user_id)}"
        self.nora.put(path, {"typing": True, "timeout": 1500})
        self.nils.sync_until(lambda answer: self.typing(answer, room_id) == [self.nora.user_id])
        self.nils.sync_until(lambda answer: self.typing(answer, room_id) == [])
        self.refused(403, "M_FORBIDDEN", self.nils.put, path, {"typing": True})
        self.refused(400, "M_BAD_JSON", self.nora.put, path, {"typing": "yes"})
        other = self.nora.create_room()
        self.refused(
            403, "M_FORBIDDEN", self.nils.put,
            f"rooms/{quote(other)}/typing/{quote(self.nils.user_id)}", {"typing": True},
        )  # fmt: skip

    # ---- across two servers ----

    def test_receipts_and_typing_cross(self):
        """a partner's people see who types and who has read"""
        room_id = self.room_of_two(self.sara, via=["north.example"])
        self.sara.sync()
        event_id = self.nora.send(room_id, "over there")
        self.sara.sync_until(
            lambda answer: any(
                event["event_id"] == event_id for event in joined(answer, room_id).get("timeline", {}).get("events", [])
            )
        )
        self.nora.put(f"rooms/{quote(room_id)}/typing/{quote(self.nora.user_id)}", {"typing": True, "timeout": 30000})
        self.sara.sync_until(lambda answer: self.typing(answer, room_id) == [self.nora.user_id])
        self.nora.put(f"rooms/{quote(room_id)}/typing/{quote(self.nora.user_id)}", {"typing": False})
        self.sara.sync_until(lambda answer: self.typing(answer, room_id) == [])
        self.sara.post(f"rooms/{quote(room_id)}/receipt/m.read/{quote(event_id)}", {})
        receipts = self.nora.sync_until(lambda answer: self.receipts(answer, room_id))
        self.assertIn(self.sara.user_id, receipts[event_id]["m.read"])


if __name__ == "__main__":
    tap.main()
