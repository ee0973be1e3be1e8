"""End-to-end keys and to-device messages: what a device uploads, others find, claim and are told."""

import concurrent.futures
import json
import unittest

from harness import tap
from harness.matrix import Parked, Refused, quote
from harness.plain import PASSWORD, PlainServer, at_once
from harness.signing import CrossSigning, Device, SigningKey, canonical

SIGNED = "signed_curve25519"


def counts(answer):
    return answer["device_one_time_keys_count"], answer["device_unused_fallback_key_types"]


def inbox(answer):
    return [event["content"] for event in answer.get("to_device", {}).get("events", [])]


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = PlainServer().start()
        cls.addClassCleanup(cls.server.__exit__)
        cls.people = 0

    def person(self, name="person"):
        Keys.people += 1
        return self.server.register(f"{name}{self.people}")

    def together(self, *people):
        """A room with all of them."""
        room_id = people[0].create_room(invite=[person.user_id for person in people[1:]])
        for person in people[1:]:
            person.join(room_id)
        return room_id

    def query(self, person, *users):
        return person.post("keys/query", {"device_keys": {user.user_id: [] for user in users}})

    def claim(self, person, owner, algorithm=SIGNED):
        """(name, key) or None."""
        body = {"one_time_keys": {owner.user_id: {owner.device_id: algorithm}}}
        given = person.twin().post("keys/claim", body)["one_time_keys"]
        found = given.get(owner.user_id, {}).get(owner.device_id)
        return next(iter(found.items())) if found else None

    def assert_refused(self, expected, person, path, body, method="POST"):
        self.assertEqual(person.refused(method, path, body), expected, body)

    # ---- a device's own keys ----

    def test_upload_and_query(self):
        """device keys are given out as they were uploaded, to the user and to others, with the device's name"""
        anna, berta = self.person("anna"), self.person("berta")
        device = Device(anna)
        self.assertEqual(device.upload(), {"one_time_key_counts": {SIGNED: 0}})
        for asker in (anna, berta):
            answer = self.query(asker, anna)
            found = dict(answer["device_keys"][anna.user_id][anna.device_id])
            found.pop("unsigned", None)
            self.assertEqual(found, device.keys())
            self.assertEqual(answer["failures"], {})
        # Only the devices asked for; unknown ones and unknown users are passed over.
        second = self.server.login(anna)
        Device(second).upload()
        body = {"device_keys": {anna.user_id: [second.device_id, "NONE"], "@nobody:plain.example": []}}
        answer = berta.post("keys/query", body)
        self.assertEqual(list(answer["device_keys"][anna.user_id]), [second.device_id])
        self.assertFalse(answer["device_keys"].get("@nobody:plain.example"))
        # A device that ends takes its keys along.
        second.post("logout", {})
        self.assertEqual(list(self.query(berta, anna)["device_keys"][anna.user_id]), [anna.device_id])

    def test_bad_device_keys(self):
        """keys of another device, without a signature, with a broken one, or changed later are refused; none stays"""
        anna = self.person("anna")
        device, stranger = Device(anna), Device(anna)
        good = device.keys()

        def altered(**changes):
            return {**good, **changes}

        refused = [
            altered(user_id="@mallory:plain.example"), altered(device_id="OTHER"), altered(signatures={}),
            altered(signatures={anna.user_id: {f"ed25519:{anna.device_id}": device.key.signature({"a": 1})}}),
            altered(keys={}), altered(keys={f"ed25519:{anna.device_id}": 3}), altered(algorithms="all"),
            altered(algorithms=["changed.after.signing"]), [], "keys", 3,
        ]  # fmt: skip
        for keys in refused:
            status, errcode = anna.refused("POST", "keys/upload", {"device_keys": keys})
            self.assertEqual(status, 400, keys)
            self.assertIn(errcode, ("M_INVALID_PARAM", "M_INVALID_SIGNATURE", "M_BAD_JSON"), keys)
        self.assertFalse(self.query(anna, anna)["device_keys"].get(anna.user_id))
        device.upload()
        device.upload()  # once more the same
        self.assert_refused((403, "M_FORBIDDEN"), anna, "keys/upload", {"device_keys": stranger.keys()})

    # ---- one-time keys ----

    def test_counts(self):
        """each upload and each claim shows in the counts of the next sync; fallback keys show until they are used"""
        anna, berta = self.person("anna"), self.person("berta")
        device = Device(anna)
        self.assertEqual(counts(anna.sync()), ({SIGNED: 0}, []))
        keys = device.one_time_keys(3)
        fallback = {f"{SIGNED}:F1": device.one_time_key(fallback=True)}
        self.assertEqual(
            device.upload(one_time_keys=keys, fallback_keys=fallback), {"one_time_key_counts": {SIGNED: 3}}
        )
        self.assertEqual(counts(anna.sync()), ({SIGNED: 3}, [SIGNED]))
        # The same upload again, as after a lost answer, changes nothing.
        self.assertEqual(anna.post("keys/upload", {"one_time_keys": keys}), {"one_time_key_counts": {SIGNED: 3}})
        for left in (2, 1, 0):
            name, key = self.claim(berta, anna)
            self.assertEqual(key, keys[name])
            self.assertEqual(counts(anna.sync()), ({SIGNED: left}, [SIGNED]))
        for _ in range(2):
            self.assertEqual(self.claim(berta, anna), (f"{SIGNED}:F1", fallback[f"{SIGNED}:F1"]))
            self.assertEqual(counts(anna.sync()), ({SIGNED: 0}, []))
        # The used fallback key again stays used; a new one is unused.
        anna.post("keys/upload", {"fallback_keys": fallback})
        self.assertEqual(counts(anna.sync())[1], [])
        anna.post("keys/upload", {"fallback_keys": {f"{SIGNED}:F2": device.one_time_key(fallback=True)}})
        self.assertEqual(counts(anna.sync())[1], [SIGNED])
        self.assertEqual(self.claim(berta, anna)[0], f"{SIGNED}:F2")

    def test_nothing_to_claim(self):
        """a device without keys, or none of the algorithm, is left out of the answer"""
        anna, berta = self.person("anna"), self.person("berta")
        Device(anna).upload()
        self.assertIsNone(self.claim(berta, anna))
        self.assertIsNone(self.claim(berta, anna, "curve25519"))

    def test_uploads_at_once(self):
        """the same keys, uploaded many times at once and in every order, are there once; claims go on beside them"""
        anna, berta = self.person("anna"), self.person("berta")
        device = Device(anna)
        device.upload()
        keys = device.one_time_keys(100)
        names = list(keys)
        orders = [names, names[::-1], names[50:] + names[:50], sorted(names, key=lambda name: name[::-1])] * 3
        uploads = [
            lambda order=order: anna.twin().post("keys/upload", {"one_time_keys": {name: keys[name] for name in order}})
            for order in orders
        ]
        answers = at_once(*uploads)
        self.assertEqual({answer["one_time_key_counts"][SIGNED] for answer in answers}, {100})
        claimed = at_once(*[lambda: self.claim(berta, anna) for _ in range(20)])
        self.assertEqual(len({name for name, _ in claimed}), 20)
        self.assertEqual(counts(anna.sync())[0], {SIGNED: 80})

    def test_bad_one_time_keys(self):
        """an unsigned, wrongly signed or ill-named key is refused with all that came with it; and too many of them"""
        anna = self.person("anna")
        device, stranger = Device(anna), Device(anna)
        device.upload()
        good = device.one_time_keys(1)
        for bad in (
            {f"{SIGNED}:B": {"key": "abc"}}, {f"{SIGNED}:B": stranger.one_time_key()}, {SIGNED: device.one_time_key()},
            {f"{SIGNED}:B": "abc"}, {f"{SIGNED}:B": 3}, {":": device.one_time_key()}, {"": device.one_time_key()},
        ):  # fmt: skip
            status, errcode = anna.refused("POST", "keys/upload", {"one_time_keys": {**good, **bad}})
            self.assertEqual(status, 400, bad)
            self.assertIn(errcode, ("M_INVALID_PARAM", "M_INVALID_SIGNATURE", "M_BAD_JSON"), bad)
        for member in ("one_time_keys", "fallback_keys"):
            for bad in ([], "none", 3):
                self.assertEqual(anna.refused("POST", "keys/upload", {member: bad})[0], 400, (member, bad))
        self.assertEqual(counts(anna.sync())[0], {SIGNED: 0})
        self.assertEqual(
            anna.refused("POST", "keys/upload", {"one_time_keys": device.one_time_keys(201)}),
            (400, "M_INVALID_PARAM"),
        )
        answer = anna.post("keys/upload", {"one_time_keys": device.one_time_keys(200)})
        self.assertEqual(answer["one_time_key_counts"], {SIGNED: 200})
        # A name with other bytes behind it.
        name = next(iter(good))
        anna.post("keys/upload", {"one_time_keys": good})
        self.assert_refused(
            (400, "M_INVALID_PARAM"), anna, "keys/upload", {"one_time_keys": {name: device.one_time_key()}}
        )

    def test_bad_claims_and_queries(self):
        """what is no map of users is refused"""
        anna = self.person("anna")
        for path, member in (("keys/claim", "one_time_keys"), ("keys/query", "device_keys")):
            for bad in ({}, {member: []}, {member: 3}, {member: {"anna": {}}}, {member: {"@anna": []}},
                        {member: {anna.user_id: 3}}, {member: {anna.user_id: "all"}}):  # fmt: skip
                status, errcode = anna.refused("POST", path, bad)
                self.assertEqual(status, 400, (path, bad))
                self.assertIn(errcode, ("M_INVALID_PARAM", "M_BAD_JSON", "M_MISSING_PARAM"), (path, bad))

    def test_how_many_are_asked_for(self):
        """a claim names at most 5,000 devices, a query as many users"""
        anna = self.person("anna")
        device = Device(anna)
        device.upload(one_time_keys=device.one_time_keys(2))
        own = {anna.user_id: {anna.device_id: SIGNED}}
        for others, claimed in ((5000, False), (4999, True)):
            crowd = {"@nobody:plain.example": {f"D{i}": SIGNED for i in range(others)}}
            answer = anna.raw(
                "POST", "/_matrix/client/v3/keys/claim", json.dumps({"one_time_keys": {**crowd, **own}})
            )
            self.assertEqual((answer.status, answer.body.get("errcode")), (200, None) if claimed else (400, "M_TOO_LARGE"))
            self.assertEqual(anna.user_id in answer.body.get("one_time_keys", {}), claimed)
            users = {f"@n{i}:plain.example": [] for i in range(others)}
            answer = anna.raw(
                "POST", "/_matrix/client/v3/keys/query", json.dumps({"device_keys": {**users, anna.user_id: []}})
            )
            self.assertEqual(answer.status, 200 if claimed else 400)
        # A refused claim took none, whatever stood first in it.
        for wrong in ({"anna": {}}, {"@anna": []}, {f"@a:s{i}.example": {"D": SIGNED} for i in range(101)}):
            self.assertEqual(anna.refused("POST", "keys/claim", {"one_time_keys": {**own, **wrong}})[0], 400)
        self.assertEqual(counts(anna.sync())[0], {SIGNED: 1})

    def test_claimed_in_order_and_once(self):
        """keys are given out in the order of upload, and none twice however many claim at a time"""
        anna, berta, carl = self.person("anna"), self.person("berta"), self.person("carl")
        device = Device(anna)
        device.upload()
        uploads = [device.one_time_keys(20) for _ in range(3)]
        # Names in no order at all: it is the upload that counts.
        uploads[1] = {name.replace(":K", ":A"): key for name, key in uploads[1].items()}
        for keys in uploads:
            anna.post("keys/upload", {"one_time_keys": keys})
        expected = [name for keys in uploads for name in keys]
        self.assertEqual([self.claim(berta, anna)[0] for _ in range(10)], expected[:10])
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            claims = [pool.submit(self.claim, (berta, carl)[i % 2], anna) for i in range(50)]
            claimed = [claim.result()[0] for claim in claims]
        self.assertEqual(sorted(claimed), sorted(expected[10:]))
        self.assertIsNone(self.claim(berta, anna))
        self.assertEqual(counts(anna.sync())[0], {SIGNED: 0})

    # ---- who is told ----

    def test_device_lists(self):
        """who shares a room is told of new keys, ended devices and new members; and of who is met no more"""
        anna, berta, carl = self.person("anna"), self.person("berta"), self.person("carl")
        room_id = self.together(anna, berta)
        for person in (anna, berta, carl):
            person.catch_up()
        parked = Parked(berta)
        Device(anna).upload()
        answer = parked.result()
        self.assertEqual(answer["device_lists"]["changed"], [anna.user_id])
        self.assertIn(anna.user_id, anna.sync()["device_lists"]["changed"])
        self.assertFalse(carl.sync().get("device_lists", {}).get("changed"))
        berta.catch_up()
        second = self.server.login(anna)
        Device(second).upload()
        self.assertEqual(berta.sync()["device_lists"]["changed"], [anna.user_id])
        second.post("logout", {})
        self.assertEqual(berta.sync()["device_lists"]["changed"], [anna.user_id])
        # The new member learns of all, all learn of the new member.
        anna.invite(room_id, carl.user_id)
        anna.catch_up(), berta.catch_up()
        carl.join(room_id)
        self.assertEqual(set(carl.sync()["device_lists"]["changed"]) - {carl.user_id}, {anna.user_id, berta.user_id})
        for person in (anna, berta):
            self.assertIn(carl.user_id, person.sync()["device_lists"]["changed"])
        # A message changes nothing of it.
        anna.send(room_id, "hello")
        self.assertFalse(berta.sync().get("device_lists", {}).get("changed"))
        # Carl goes: both sides forget, but not whom they meet elsewhere.
        self.together(anna, carl)
        for person in (anna, berta, carl):
            person.catch_up()
        carl.leave(room_id)
        self.assertEqual(carl.sync()["device_lists"]["left"], [berta.user_id])
        self.assertEqual(berta.sync()["device_lists"]["left"], [carl.user_id])
        self.assertFalse(anna.sync()["device_lists"]["left"])

    def test_device_lists_whatever_the_filter(self):
        """a filter that wants no rooms hides no change of devices"""
        anna, berta = self.person("anna"), self.person("berta")
        self.together(anna, berta)
        berta.catch_up()
        parked = Parked(berta, filter='{"room":{"rooms":[]}}')
        Device(anna).upload()
        answer = parked.result()
        self.assertEqual(answer["device_lists"]["changed"], [anna.user_id])
        self.assertEqual(answer["rooms"]["join"], {})

    def test_keys_changes(self):
        """/keys/changes says between two tokens what the syncs in between said"""
        anna, berta, carl = self.person("anna"), self.person("berta"), self.person("carl")
        room_id = self.together(anna, berta, carl)
        before = anna.sync()["next_batch"]
        Device(berta).upload()
        middle = anna.sync()["next_batch"]
        carl.leave(room_id)
        after = anna.sync()["next_batch"]

        def changes(since, until):
            answer = anna.get("keys/changes", **{"from": since, "to": until})
            return answer["changed"], answer["left"]

        self.assertEqual(changes(before, middle), ([berta.user_id], []))
        self.assertEqual(changes(middle, after), ([], [carl.user_id]))
        self.assertEqual(changes(before, after), ([berta.user_id], [carl.user_id]))
        self.assertEqual(changes(after, after), ([], []))
        for query in ({}, {"from": before}, {"to": after}, {"from": "x", "to": after}, {"from": before, "to": "x"}):
            self.assertEqual(anna.refused("GET", "keys/changes", **query)[0], 400, query)

    # ---- cross-signing ----

    def test_first_upload(self):
        """the first cross-signing keys of a fresh session need no more; again the same, too; others need a proof"""
        anna, berta = self.person("anna"), self.person("berta")
        self.together(anna, berta)
        berta.catch_up()
        keys = CrossSigning(anna.user_id)
        anna.post("keys/device_signing/upload", keys.upload())
        self.assertEqual(berta.sync()["device_lists"]["changed"], [anna.user_id])
        anna.post("keys/device_signing/upload", keys.upload())
        own, others = self.query(anna, anna), self.query(berta, anna)
        uploaded = keys.upload()
        for answer in (own, others):
            self.assertEqual(answer["master_keys"][anna.user_id], uploaded["master_key"])
            self.assertEqual(answer["self_signing_keys"][anna.user_id], uploaded["self_signing_key"])
        self.assertEqual(own["user_signing_keys"][anna.user_id], uploaded["user_signing_key"])
        self.assertNotIn(anna.user_id, others.get("user_signing_keys", {}))
        # Other keys: by a proof only, given for this very request.
        other = CrossSigning(anna.user_id).upload()
        with self.assertRaises(Refused) as caught:
            anna.post("keys/device_signing/upload", other)
        challenge = caught.exception
        self.assertEqual(challenge.status, 401)
        self.assertIn("session", challenge.body)
        self.assertIn("m.login.password", [stage for flow in challenge.body["flows"] for stage in flow["stages"]])
        auth = {
            "type": "m.login.password", "session": challenge.body["session"], "password": "wrong",
            "identifier": {"type": "m.id.user", "user": anna.user_id},
        }  # fmt: skip
        self.assertEqual(anna.refused("POST", "keys/device_signing/upload", {**other, "auth": auth})[0], 401)
        self.assertEqual(self.query(anna, anna)["master_keys"][anna.user_id], uploaded["master_key"])
        anna.post("keys/device_signing/upload", {**other, "auth": {**auth, "password": PASSWORD}})
        self.assertEqual(self.query(berta, anna)["master_keys"][anna.user_id], other["master_key"])

    def test_bad_cross_signing(self):
        """keys of another user or usage, not signed by the master key, or without one are refused; none stays"""
        anna = self.person("anna")
        keys, other = CrossSigning(anna.user_id), CrossSigning(anna.user_id)
        foreign = CrossSigning("@mallory:plain.example").upload()
        good = keys.upload()
        for bad in (
            {"master_key": foreign["master_key"]},
            {"master_key": good["self_signing_key"]},
            {"self_signing_key": good["self_signing_key"]},
            {**good, "self_signing_key": other.upload()["self_signing_key"]},
            {**good, "user_signing_key": {**good["user_signing_key"], "signatures": {}}},
            {"master_key": {**good["master_key"], "keys": {}}},
            {"master_key": {**good["master_key"], "keys": {"ed25519:AAAA": "AAAA"}}},
            {"master_key": []},
        ):
            status, errcode = anna.refused("POST", "keys/device_signing/upload", bad)
            self.assertEqual(status, 400, bad)
            self.assertIn(errcode, ("M_INVALID_PARAM", "M_INVALID_SIGNATURE", "M_MISSING_PARAM", "M_BAD_JSON"), bad)
        self.assertFalse(self.query(anna, anna).get("master_keys"))

    def test_no_device_is_named_like_a_key(self):
        """a device's id is never that of a cross-signing key, whichever of the two comes first"""
        anna, berta = self.person("anna"), self.person("berta")
        keys = CrossSigning(anna.user_id)
        anna.post("keys/device_signing/upload", keys.upload())
        for key in (keys.master, keys.self_signing, keys.user_signing):
            with self.assertRaises(Refused) as caught:
                self.server.login(anna, key.public)
            self.assertEqual((caught.exception.status, caught.exception.errcode), (400, "M_INVALID_PARAM"))
        self.assertEqual(len(anna.get("devices")["devices"]), 1)
        self.server.login(berta, keys.master.public)  # it is nothing of hers
        later = CrossSigning(berta.user_id)
        for name in ("master", "self_signing", "user_signing"):
            second = CrossSigning(berta.user_id)
            fresh = self.server.login(berta, getattr(second, name).public)
            self.assert_refused((400, "M_INVALID_PARAM"), fresh, "keys/device_signing/upload", second.upload())
        self.assertFalse(self.query(berta, berta).get("master_keys"))
        berta.post("keys/device_signing/upload", later.upload())

    def test_keys_have_a_size(self):
        """what others are told of a person's keys has a limit: whole keys are refused over it, and kept at it"""
        anna, berta = self.person("anna"), self.person("berta")
        device, cross = Device(anna), CrossSigning(anna.user_id)

        def filled(key, length, sign):
            key = {name: value for name, value in key.items() if name != "signatures"}
            rest = length - len(canonical(sign({**key, "x": ""})))
            return sign({**key, "x": "x" * rest})

        def own(key):
            return device.key.sign(key, anna.user_id, anna.device_id)

        def same(key):
            return key

        for length, expected in ((65537, (413, "M_TOO_LARGE")), (65536, (200, None))):
            keys = filled(device.keys(), length, own)
            self.assertEqual(anna.refused("POST", "keys/upload", {"device_keys": keys}), expected)
            self.assertEqual(bool(self.query(berta, anna)["device_keys"][anna.user_id]), length == 65536)
        for length, expected in ((4097, (413, "M_TOO_LARGE")), (4096, (200, None))):
            for member in ("one_time_keys", "fallback_keys"):
                name = f"{SIGNED}:{member}{length}"
                key = filled(device.one_time_key(), length, own)
                self.assertEqual(anna.refused("POST", "keys/upload", {member: {name: key}}), expected, member)
        for length, expected in ((65537, (413, "M_TOO_LARGE")), (65536, (200, None))):
            body = {**cross.upload(), "master_key": filled(cross.master_key(), length, same)}
            self.assertEqual(anna.refused("POST", "keys/device_signing/upload", body), expected)
            self.assertEqual("master_keys" in self.query(berta, anna), length == 65536)

    def test_signatures(self):
        """three relations count: self-signing key on device, device on master key, user-signing key on another's"""
        anna, berta, carl = self.person("anna"), self.person("berta"), self.person("carl")
        device, keys, hers = Device(anna), CrossSigning(anna.user_id), CrossSigning(berta.user_id)
        device.upload()
        anna.post("keys/device_signing/upload", keys.upload())
        berta.post("keys/device_signing/upload", hers.upload())
        device_keys, master, her_master = device.keys(), keys.master_key(), hers.master_key()
        body = {
            anna.user_id: {
                anna.device_id: keys.self_signing.sign(device_keys, anna.user_id),
                keys.master.public: device.key.sign(master, anna.user_id, anna.device_id),
            },
            berta.user_id: {hers.master.public: keys.user_signing.sign(her_master, anna.user_id)},
        }
        self.assertEqual(anna.post("keys/signatures/upload", body), {"failures": {}})
        for asker in (anna, carl):
            answer = self.query(asker, anna, berta)
            signatures = answer["device_keys"][anna.user_id][anna.device_id]["signatures"][anna.user_id]
            self.assertIn(f"ed25519:{keys.self_signing.public}", signatures)
            self.assertIn(f"ed25519:{anna.device_id}", signatures)
            signatures = answer["master_keys"][anna.user_id]["signatures"][anna.user_id]
            self.assertIn(f"ed25519:{anna.device_id}", signatures)
            seen = anna.user_id in answer["master_keys"][berta.user_id].get("signatures", {})
            self.assertEqual(seen, asker is anna, "whom one has verified is one's own knowledge")

        stranger = SigningKey()
        forged = {anna.user_id: {f"ed25519:{keys.user_signing.public}": stranger.signature(her_master)}}
        for target_user, target, key in (
            (anna.user_id, anna.device_id, stranger.sign(device_keys, anna.user_id)),
            (anna.user_id, anna.device_id, keys.user_signing.sign(device_keys, anna.user_id)),
            (anna.user_id, anna.device_id, keys.self_signing.sign({**device_keys, "algorithms": []}, anna.user_id)),
            (anna.user_id, "UNKNOWN", keys.self_signing.sign(device_keys, anna.user_id)),
            (anna.user_id, keys.master.public, keys.self_signing.sign(master, anna.user_id)),
            (berta.user_id, hers.master.public, keys.self_signing.sign(her_master, anna.user_id)),
            (berta.user_id, hers.master.public, {**her_master, "signatures": forged}),
            (berta.user_id, hers.master.public, "text"),
            (berta.user_id, hers.master.public, {}),
        ):
            answer = carl_or_anna = anna.post("keys/signatures/upload", {target_user: {target: key}})
            failure = carl_or_anna["failures"][target_user][target]
            self.assertIn(failure["errcode"], ("M_INVALID_SIGNATURE", "M_NOT_FOUND", "M_INVALID_PARAM"), answer)
        # Nobody signs for another.
        body = {anna.user_id: {anna.device_id: keys.self_signing.sign(device_keys, anna.user_id)}}
        self.assertTrue(carl.post("keys/signatures/upload", body)["failures"])
        # A new master key has none of the old one's signatures.
        self.assertEqual(self.query(anna, berta)["master_keys"][berta.user_id]["signatures"].keys(), {anna.user_id})

    # ---- to-device ----

    def send(self, person, messages, transaction, event_type="com.example.note"):
        return person.twin().put(f"sendToDevice/{event_type}/{transaction}", {"messages": messages})

    def test_to_device(self):
        """a message reaches the device named, or all by *; it wakes only those; each has it until it acknowledges"""
        anna, berta = self.person("anna"), self.person("berta")
        second = self.server.login(berta)
        berta.catch_up(), second.catch_up()
        waits = Parked(second)
        here = Parked(berta)
        self.send(anna, {berta.user_id: {berta.device_id: {"n": 1}}}, "t1")
        answer = here.result()
        self.assertEqual(answer["to_device"]["events"], [
            {"type": "com.example.note", "sender": anna.user_id, "content": {"n": 1}}
        ])  # fmt: skip
        self.assertTrue(waits.is_waiting())
        self.send(anna, {berta.user_id: {"*": {"n": 2}}}, "t2")
        self.assertEqual(inbox(waits.result()), [{"n": 2}])
        # The answer was lost: with the old token all comes again, with the new one only what is new.
        self.assertEqual(inbox(berta.sync_with(since=berta.since)), [{"n": 1}, {"n": 2}])
        berta.since = answer["next_batch"]
        self.assertEqual(inbox(berta.sync()), [{"n": 2}])
        self.assertEqual(inbox(berta.sync()), [])
        self.assertEqual(
            self.server.sql(f"SELECT count(*) FROM to_device WHERE device_id = '{berta.device_id}'"), "0"
        )

    def test_to_device_order_and_pages(self):
        """hundreds of messages come in order, in several syncs, none twice; an initial sync has them too"""
        anna, berta = self.person("anna"), self.person("berta")
        berta.catch_up()
        for i in range(250):
            self.send(anna, {berta.user_id: {"*": {"n": i}}}, f"m{i}")
        first = berta.sync_with()
        self.assertEqual(inbox(first), [{"n": i} for i in range(100)])
        got = []
        for _ in range(10):
            page = inbox(berta.sync())
            got += page
            if not page:
                break
        self.assertEqual(got, [{"n": i} for i in range(250)])
        self.assertEqual(inbox(berta.sync_with()), [])
        room_id = self.together(anna, berta)
        berta.catch_up()
        sent = anna.send(room_id, "beside")
        events = berta.sync()["rooms"]["join"][room_id]["timeline"]["events"]
        self.assertEqual([event["event_id"] for event in events], [sent])

    def test_to_device_once(self):
        """a transaction id counts once, also when the request and its repetition come at the same time"""
        anna, berta = self.person("anna"), self.person("berta")
        berta.catch_up()
        for round_number in range(5):
            messages = {berta.user_id: {"*": {"round": round_number}}}
            at_once(*[lambda: self.send(anna, messages, f"same{round_number}") for _ in range(6)])
            self.send(anna, messages, f"same{round_number}")
            self.assertEqual(inbox(berta.sync()), [{"round": round_number}])
        # Another device's id, or another type's, is another.
        second = self.server.login(anna)
        self.send(second, {berta.user_id: {"*": {"round": 9}}}, "same0")
        self.assertEqual(inbox(berta.sync()), [{"round": 9}])

    def test_bad_to_device(self):
        """what is no map of users and devices is refused and reaches nobody; unknown users and devices are passed over"""
        anna, berta = self.person("anna"), self.person("berta")
        berta.catch_up()
        good = {berta.user_id: {"*": {"n": 1}}}
        for i, bad in enumerate((
            {}, {"messages": []}, {"messages": 3}, {"messages": {**good, berta.user_id: []}},
            {"messages": {**good, "berta": {"*": {}}}}, {"messages": {berta.user_id: {"*": "text"}}},
            {"messages": {berta.user_id: {berta.device_id: {"n": 1}, "*": 3}}},
        )):  # fmt: skip
            status, errcode = anna.refused("PUT", f"sendToDevice/com.example.note/bad{i}", bad)
            self.assertEqual(status, 400, bad)
            self.assertIn(errcode, ("M_INVALID_PARAM", "M_BAD_JSON", "M_MISSING_PARAM"), bad)
        self.send(anna, {"@nobody:plain.example": {"*": {}}, berta.user_id: {"NONE": {}}}, "passed")
        self.assertEqual(inbox(berta.sync()), [])

    def test_to_device_limits(self):
        """how many are addressed, and how much one message holds, has a limit, and what is over it reaches nobody"""
        anna, berta = self.person("anna"), self.person("berta")
        berta.catch_up()

        def crowd(count, of_each):
            return {f"@n{i}:plain.example": of_each for i in range(count)}

        for of_each in ({}, {"*": {}}):
            status, errcode = anna.refused(
                "PUT", f"sendToDevice/m.note/crowd{len(of_each)}",
                {"messages": {**crowd(5000, of_each), berta.user_id: {"*": {"n": 1}}}},
            )  # fmt: skip
            self.assertEqual((status, errcode), (400, "M_INVALID_PARAM"), of_each)
            self.send(anna, {**crowd(4999, of_each), berta.user_id: {"*": {"n": 2}}}, f"full{len(of_each)}")
            self.assertEqual(inbox(berta.sync()), [{"n": 2}])
        empty = len('{"text":""}')
        largest = {"text": "x" * (65536 - empty)}
        self.send(anna, {berta.user_id: {"*": largest}}, "largest")
        self.assertEqual(inbox(berta.sync()), [largest])
        for user in (berta.user_id, "@gustav:gamma.example"):
            messages = {berta.user_id: {"*": {"n": 3}}, user: {"*": {"text": "x" * (65537 - empty)}}}
            self.assertEqual(
                anna.refused("PUT", f"sendToDevice/m.note/over{len(user)}", {"messages": messages}),
                (413, "M_TOO_LARGE"),
            )
        self.assertEqual(inbox(berta.sync()), [])

    def test_inbox_ends_with_the_device(self):
        """a device that ended has neither keys nor messages left behind"""
        anna, berta = self.person("anna"), self.person("berta")
        second = self.server.login(berta)
        device = Device(second)
        device.upload(one_time_keys=device.one_time_keys(5))
        self.assertEqual(counts(second.sync())[0], {SIGNED: 5})
        self.send(anna, {berta.user_id: {second.device_id: {"n": 1}}}, "t1")
        second.post("logout", {})
        for table in ("to_device", "device_key", "one_time_key", "fallback_key"):
            found = self.server.sql(f"SELECT count(*) FROM {table} WHERE device_id = '{second.device_id}'")
            self.assertEqual(found, "0", table)
        again = self.server.login(berta, second.device_id)
        self.assertEqual(inbox(again.sync()), [])
        self.assertEqual(counts(again.sync())[0], {SIGNED: 0})
        Device(again).upload()  # a new life may bring new keys
        self.assertIn(again.device_id, self.query(anna, berta)["device_keys"][berta.user_id])
        self.assertEqual(berta.refused("GET", f"devices/{quote('NONE')}")[0], 404)


tap.main()
