"""Rooms of every version by the client API, here and across two servers: their life, and their replacement."""

import tempfile
import unittest
from pathlib import Path

from harness import tap
from harness.matrix import Refused, quote
from harness.open_servers import OpenServer
from harness.postgres import Given


class RoomVersions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        home = Path(cls.folder.name)
        cls.cluster = Given()
        cls.north = OpenServer("north.example", home / "north", cls.cluster, home / "pki")
        cls.south = OpenServer("south.example", home / "south", cls.cluster, home / "pki")
        cls.north.start([cls.south])
        cls.south.start([cls.north])
        cls.nora, cls.nils = cls.north.register("nora"), cls.north.register("nils")
        cls.sara, cls.sven = cls.south.register("sara"), cls.south.register("sven")
        available = cls.nora.get("capabilities")["capabilities"]["m.room_versions"]["available"]
        cls.versions = sorted(available, key=int)

    @classmethod
    def tearDownClass(cls):
        cls.north.stop()
        cls.south.stop()
        cls.cluster.drop_all()
        cls.folder.cleanup()

    def refused(self, status, errcode, act, *arguments, **options):
        with self.assertRaises(Refused) as caught:
            act(*arguments, **options)
        self.assertEqual((caught.exception.status, caught.exception.errcode), (status, errcode), caught.exception)
        self.assertTrue(caught.exception.body["error"])

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


if __name__ == "__main__":
    tap.main()
