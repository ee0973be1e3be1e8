"""Rooms of every version by the client API, here and across two servers: their life, and their replacement."""

from harness import tap
from harness.matrix import quote
from harness.two_servers import TwoServers


class RoomVersions(TwoServers):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nora, cls.nils = cls.north.register("nora"), cls.north.register("nils")
        cls.sara, cls.sven = cls.south.register("sara"), cls.south.register("sven")
        available = cls.nora.get("capabilities")["capabilities"]["m.room_versions"]["available"]
        cls.versions = sorted(available, key=int)

    @staticmethod
    def state(client, room_id, kind, key=""):
        return client.get(f"rooms/{quote(room_id)}/state/{kind}/{quote(key)}")

    def wait_membership(self, client, room_id, user_id, membership):
        client.sync_until(
            lambda answer: self.state(client, room_id, "m.room.member", user_id)["membership"] == membership
        )

    def since(self, first):
        return [version for version in self.versions if int(version) >= first]

    # ---- the life of a room ----

    def test_the_versions_are_told(self):
        told = self.nora.get("capabilities")["capabilities"]["m.room_versions"]
        self.assertEqual(told["default"], "12")
        self.assertEqual(set(told["available"].values()), {"stable"})
        self.assertLessEqual({str(number) for number in range(3, 13)}, set(self.versions))
        for version in ["0", "13", "org.example.mine", ""]:
            self.refused(400, "M_UNSUPPORTED_ROOM_VERSION", self.nora.post, "createRoom", {"room_version": version})
        self.refused(400, "M_BAD_JSON", self.nora.post, "createRoom", {"room_version": 11})

    def live(self, version):
        room_id = self.nora.create_room(room_version=version, invite=[self.sara.user_id], name=f"Hall {version}")
        path = f"rooms/{quote(room_id)}"
        create = self.state(self.nora, room_id, "m.room.create")
        self.assertEqual(create["room_version"], version)
        self.assertEqual(create.get("creator"), self.nora.user_id if int(version) < 11 else None)
        self.assertEqual(room_id.endswith(":north.example"), int(version) < 12)
        self.sara.wait_invited(room_id)
        self.assertEqual(self.sara.join(room_id)["room_id"], room_id)
        self.sara.wait_event(room_id, self.nora.send(room_id, "welcome"))
        word = self.sara.send(room_id, "thank you")
        self.nora.wait_event(room_id, word)
        self.assertEqual(self.state(self.sara, room_id, "m.room.name"), {"name": f"Hall {version}"})
        # One may not redact the other's words, and the creator may.
        own = self.nora.send(room_id, "mine")
        self.sara.wait_event(room_id, own)
        self.refused(403, "M_FORBIDDEN", self.sara.put, f"{path}/redact/{quote(own)}/r{version}", {})
        redaction = self.nora.put(f"{path}/redact/{quote(word)}/r{version}", {"reason": "oops"})["event_id"]
        told = self.sara.wait_event(room_id, redaction)
        self.assertEqual((told["redacts"], told["content"]["redacts"]), (word, word))
        for client in (self.nora, self.sara):
            self.assertEqual(client.get(f"{path}/event/{quote(word)}")["content"], {})
        # Nobody without the power changes the room.
        self.refused(403, "M_FORBIDDEN", self.sara.put, f"{path}/state/m.room.name", {"name": "Mine"})
        self.refused(403, "M_FORBIDDEN", self.sara.post, f"{path}/kick", {"user_id": self.nora.user_id})
        # She takes a friend in, who is thrown out, and comes again.
        self.sara.invite(room_id, self.sven.user_id)
        self.sven.join(room_id)
        self.nora.wait_event(room_id, self.sven.send(room_id, "hello"))
        self.nora.post(f"{path}/kick", {"user_id": self.sven.user_id})
        self.wait_membership(self.sara, room_id, self.sven.user_id, "leave")
        self.refused(403, "M_FORBIDDEN", self.sven.send, room_id, "still here?")
        self.nora.post(f"{path}/ban", {"user_id": self.sven.user_id})
        self.wait_membership(self.sara, room_id, self.sven.user_id, "ban")
        self.refused(403, "M_FORBIDDEN", self.sara.invite, room_id, self.sven.user_id)
        self.refused(403, "M_FORBIDDEN", self.sven.join, room_id, via=["north.example"])
        self.sara.leave(room_id)
        self.wait_membership(self.nora, room_id, self.sara.user_id, "leave")
        # And back from outside.
        self.nora.invite(room_id, self.sara.user_id)
        self.sara.wait_invited(room_id)
        self.sara.join(room_id)
        self.nora.wait_event(room_id, self.sara.send(room_id, "back"))

    def test_a_room_lives_in_every_version(self):
        for version in self.versions:
            with self.subTest(version=version):
                self.live(version)

    # ---- replaced by another ----

    def upgrade(self, client, room_id, version, **body):
        return client.post(f"rooms/{quote(room_id)}/upgrade", {"new_version": version, **body})["replacement_room"]

    def test_a_room_is_replaced_by_one_of_each_version(self):
        for version in self.versions:
            for target in {self.versions[0], version, self.versions[-1]}:
                with self.subTest(version=version, target=target):
                    self.replace(version, target)

    def replace(self, version, target):
        alias = f"hall{version}to{target}"
        old = self.nora.create_room(
            room_version=version,
            preset="public_chat",
            visibility="public",
            room_alias_name=alias,
            name="Hall",
            topic="Talk",
            creation_content={"type": "m.space", "m.federate": True, "x.own": 1},
            invite=[self.nils.user_id],
            initial_state=[
                {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
                {"type": "m.room.server_acl", "content": {"allow": ["*"], "deny": ["bad.example"]}},
                {"type": "x.private", "content": {"secret": 1}},
            ],
        )
        alias = f"#{alias}:north.example"
        self.nils.join(old)
        levels = self.state(self.nora, old, "m.room.power_levels")
        levels["users"][self.nils.user_id] = 60
        self.nora.put(f"rooms/{quote(old)}/state/m.room.power_levels", levels)
        # He may do much, and not that.
        levels["events"]["m.room.tombstone"] = max(levels["events"]["m.room.tombstone"], 100)
        self.refused(403, "M_FORBIDDEN", self.upgrade, self.nils, old, target)
        new = self.upgrade(self.nora, old, target)
        self.assertNotEqual(new, old)
        tombstone = self.state(self.nils, old, "m.room.tombstone")
        self.assertEqual(tombstone["replacement_room"], new)
        create = self.state(self.nora, new, "m.room.create")
        self.assertEqual((create["room_version"], create["type"]), (target, "m.space"))
        self.assertEqual(create["predecessor"]["room_id"], old)
        self.assertNotIn("x.own", create)
        for kind in ["name", "topic", "encryption", "server_acl", "join_rules", "history_visibility", "guest_access"]:
            self.assertEqual(self.state(self.nora, new, f"m.room.{kind}"), self.state(self.nora, old, f"m.room.{kind}"))
        self.refused(404, "M_NOT_FOUND", self.state, self.nora, new, "x.private")
        now = self.state(self.nora, new, "m.room.power_levels")
        self.assertEqual(now["users"][self.nils.user_id], 60)
        self.assertEqual(self.nora.user_id in now["users"], int(target) < 12)
        # The name leads to the new room; the old one is quiet.
        self.assertEqual(self.nils.get(f"directory/room/{quote(alias)}")["room_id"], new)
        listed = [room["room_id"] for room in self.nils.get("publicRooms")["chunk"]]
        self.assertIn(new, listed)
        self.assertNotIn(old, listed)
        closed = self.state(self.nora, old, "m.room.power_levels")
        self.assertEqual((closed["events_default"], closed["invite"]), (50, 50))
        # Whoever was there finds the new one, from here and from afar.
        self.assertEqual(self.nils.join(alias)["room_id"], new)
        self.assertEqual(self.sara.join(alias)["room_id"], new)
        self.nora.wait_event(new, self.sara.send(new, "here too"))
        # What its creator may, she may: also end this one again.
        self.upgrade(self.nora, new, target)

    def test_who_may_not_replace_a_room(self):
        room_id = self.nora.create_room(room_version="10")
        self.refused(403, "M_FORBIDDEN", self.upgrade, self.nils, room_id, "12")
        self.refused(400, "M_UNSUPPORTED_ROOM_VERSION", self.upgrade, self.nora, room_id, "99")
        self.refused(400, "M_BAD_JSON", self.nora.post, f"rooms/{quote(room_id)}/upgrade", {})
        self.refused(400, "M_BAD_JSON", self.nora.post, f"rooms/{quote(room_id)}/upgrade", {"new_version": 12})
        for creators in [["nils"], [5], "nils", {}]:
            self.refused(400, "M_INVALID_PARAM", self.upgrade, self.nora, room_id, "12", additional_creators=creators)
        self.refused(404, "M_NOT_FOUND", self.state, self.nora, room_id, "m.room.tombstone")

    def test_other_creators_of_the_replacement_are_named(self):
        old = self.nora.create_room(room_version="11", invite=[self.nils.user_id])
        self.nils.join(old)
        new = self.upgrade(self.nora, old, "12", additional_creators=[self.nils.user_id])
        self.assertEqual(self.state(self.nora, new, "m.room.create")["additional_creators"], [self.nils.user_id])
        self.nora.invite(new, self.nils.user_id)
        self.nils.join(new)
        last = self.upgrade(self.nils, new, "12")
        self.assertNotIn("additional_creators", self.state(self.nils, last, "m.room.create"))
        # Versions that know of none pass it over.
        first = self.upgrade(self.nils, last, "9", additional_creators=[self.nora.user_id])
        self.assertNotIn("additional_creators", self.state(self.nils, first, "m.room.create"))

    # ---- at the door ----

    @staticmethod
    def knock(client, room, *via, **body):
        servers = "?" + "&".join(f"via={name}" for name in via) if via else ""
        return client.post(f"knock/{quote(room)}{servers}", body)["room_id"]

    @staticmethod
    def wait_knock(client, room_id):
        return client.sync_until(lambda answer: answer.get("rooms", {}).get("knock", {}).get(room_id))

    @staticmethod
    def wait_left(client, room_id):
        return client.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("leave", {}))

    def house(self, version, rule, **content):
        rules = {"type": "m.room.join_rules", "content": {"join_rule": rule, **content}}
        return self.nora.create_room(
            room_version=version,
            initial_state=[rules],
            name=f"House {version}",
            power_level_content_override={"invite": 50},
        )

    def test_who_knocks_from_here_is_let_in(self):
        for version in self.since(7):
            with self.subTest(version=version):
                self.let_in(version, self.nils, "knock")

    def test_who_knocks_from_afar_is_let_in(self):
        for version in self.since(7):
            with self.subTest(version=version):
                self.let_in(version, self.sara, "knock", "north.example")

    def test_one_may_knock_where_members_come_in(self):
        for version in self.since(10):
            with self.subTest(version=version):
                self.let_in(version, self.sara, "knock_restricted", "north.example")
                self.let_in(version, self.nils, "knock_restricted")

    def let_in(self, version, guest, rule, *via):
        room_id = self.house(version, rule)
        self.refused(403, "M_FORBIDDEN", guest.join, room_id, via=via) if rule == "knock" else None
        self.assertEqual(self.knock(guest, room_id, *via, reason="It rains"), room_id)
        shown = self.wait_knock(guest, room_id)["knock_state"]["events"]
        kinds = {event["type"]: event for event in shown}
        self.assertEqual(kinds["m.room.name"]["content"], {"name": f"House {version}"})
        self.assertEqual(kinds["m.room.create"]["content"]["room_version"], version)
        own = [event for event in shown if event.get("state_key") == guest.user_id]
        self.assertEqual([event["content"]["membership"] for event in own], ["knock"])
        self.wait_membership(self.nora, room_id, guest.user_id, "knock")
        told = self.state(self.nora, room_id, "m.room.member", guest.user_id)
        self.assertEqual((told["membership"], told["reason"]), ("knock", "It rains"))
        # It opens nothing by itself.
        self.refused(403, "M_FORBIDDEN", guest.send, room_id, "hello?")
        self.refused(403, "M_FORBIDDEN", guest.get, f"rooms/{quote(room_id)}/messages", dir="b")
        self.nora.invite(room_id, guest.user_id)
        guest.wait_invited(room_id)
        self.assertNotIn(room_id, guest.get("sync")["rooms"].get("knock", {}))
        guest.join(room_id)
        self.nora.wait_event(room_id, guest.send(room_id, "thank you"))
        # Who is in does not knock.
        self.refused(403, "M_FORBIDDEN", self.knock, guest, room_id, *via)

    def test_a_knock_is_taken_back(self):
        for guest, via in ((self.nils, []), (self.sara, ["north.example"])):
            room_id = self.house("12", "knock")
            self.knock(guest, room_id, *via)
            self.wait_knock(guest, room_id)
            self.assertEqual(self.knock(guest, room_id, *via), room_id)
            guest.leave(room_id)
            self.wait_left(guest, room_id)
            self.wait_membership(self.nora, room_id, guest.user_id, "leave")
            self.assertNotIn(room_id, guest.get("sync")["rooms"].get("knock", {}))

    def test_a_knock_is_turned_down(self):
        for version in ("7", "12"):
            for guest, via in ((self.nils, []), (self.sara, ["north.example"])):
                room_id = self.house(version, "knock")
                path = f"rooms/{quote(room_id)}"
                self.knock(guest, room_id, *via)
                self.wait_knock(guest, room_id)
                self.wait_membership(self.nora, room_id, guest.user_id, "knock")
                self.nora.post(f"{path}/kick", {"user_id": guest.user_id, "reason": "Not today"})
                self.wait_left(guest, room_id)
                self.assertNotIn(room_id, guest.get("sync")["rooms"].get("knock", {}))
                # Again, and then never more.
                self.knock(guest, room_id, *via)
                self.wait_knock(guest, room_id)
                self.wait_membership(self.nora, room_id, guest.user_id, "knock")
                self.nora.post(f"{path}/ban", {"user_id": guest.user_id})
                self.wait_left(guest, room_id)
                self.refused(403, "M_FORBIDDEN", self.knock, guest, room_id, *via)

    def test_doors_without_a_knocker(self):
        for version, rule in [(self.versions[0], "knock"), ("6", "knock"), ("12", "invite"), ("9", "knock_restricted")]:
            room_id = self.house(version, rule)
            with self.subTest(version=version, rule=rule):
                self.refused(403, "M_FORBIDDEN", self.knock, self.nils, room_id)
                self.refused(403, "M_FORBIDDEN", self.knock, self.sara, room_id, "north.example")
        self.refused(400, "M_INVALID_PARAM", self.knock, self.nils, "nowhere")
        self.refused(404, "M_NOT_FOUND", self.knock, self.nils, "!" + "A" * 43)
        self.refused(404, "M_NOT_FOUND", self.knock, self.sara, "!" + "A" * 43, "north.example")
        self.refused(404, "M_NOT_FOUND", self.knock, self.nils, "#nowhere:north.example")

    def test_a_room_is_knocked_on_by_its_name(self):
        room_id = self.nora.create_room(
            room_alias_name="door", initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
        )
        self.assertEqual(self.knock(self.nils, "#door:north.example"), room_id)
        self.assertEqual(self.knock(self.sara, "#door:north.example"), room_id)
        self.wait_knock(self.sara, room_id)

    # ---- by membership of another room ----

    def test_members_of_one_room_come_into_another(self):
        for version in self.since(8):
            for rule in ["restricted"] + ["knock_restricted"] * (int(version) >= 10):
                with self.subTest(version=version, rule=rule):
                    self.come_in(version, rule)

    def come_in(self, version, rule):
        hall = self.nora.create_room(room_version=version, invite=[self.sara.user_id, self.nils.user_id])
        inner = self.house(version, rule, allow=[{"type": "m.room_membership", "room_id": hall}])
        self.refused(403, "M_FORBIDDEN", self.nils.join, inner)
        self.sara.wait_invited(hall)
        self.refused(403, "M_FORBIDDEN", self.sara.join, inner, via=["north.example"])
        for guest, via in ((self.nils, []), (self.sara, ["north.example"])):
            guest.join(hall)
            self.wait_membership(self.nora, hall, guest.user_id, "join")
            guest.join(inner, via=via)
            self.wait_membership(self.nora, inner, guest.user_id, "join")
            told = self.state(guest, inner, "m.room.member", guest.user_id)
            self.assertEqual(told["join_authorised_via_users_server"], self.nora.user_id)
            self.nora.wait_event(inner, guest.send(inner, "good morning"))
        # A second of hers, by the first's server, which has nobody of power: by the other server.
        self.refused(403, "M_FORBIDDEN", self.sven.join, inner)
        self.nora.invite(hall, self.sven.user_id)
        self.sven.wait_invited(hall)
        self.sven.join(hall)
        self.wait_membership(self.nora, hall, self.sven.user_id, "join")
        self.sven.join(inner)
        self.nora.wait_event(inner, self.sven.send(inner, "good evening"))

    def test_older_versions_know_no_members_of_other_rooms(self):
        hall = self.nora.create_room(invite=[self.nils.user_id])
        self.nils.join(hall)
        for version, rule in [("7", "restricted"), ("9", "knock_restricted")]:
            room_id = self.house(version, rule, allow=[{"type": "m.room_membership", "room_id": hall}])
            self.refused(403, "M_FORBIDDEN", self.nils.join, room_id)


if __name__ == "__main__":
    tap.main()
