"""End-to-end keys and to-device messages between two servers."""

from harness import tap
from harness.matrix import Client
from harness.processes import wait_until
from harness.signing import CrossSigning, Device
from harness.two_servers import TwoServers

SIGNED = "signed_curve25519"


class Across(TwoServers):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nora, cls.sara = cls.north.register("nora"), cls.south.register("sara")
        cls.room_id = cls.nora.create_room(invite=[cls.sara.user_id])
        cls.sara.wait_invited(cls.room_id)
        cls.sara.join(cls.room_id)
        cls.sara.wait_event(cls.room_id, cls.nora.send(cls.room_id, "welcome"))

    def query(self, client, user):
        return client.post("keys/query", {"device_keys": {user.user_id: []}})

    def wait_changed(self, client, user):
        client.sync_until(lambda answer: user.user_id in answer.get("device_lists", {}).get("changed", []))

    def test_1_device_keys(self):
        """new keys are told across, and asked for there"""
        self.nora.sync()
        device = Device(self.sara)
        device.upload(one_time_keys=device.one_time_keys(2))
        Across.device = device
        self.wait_changed(self.nora, self.sara)
        answer = self.query(self.nora, self.sara)
        self.assertEqual(answer["failures"], {})
        found = dict(answer["device_keys"][self.sara.user_id][self.sara.device_id])
        found.pop("unsigned", None)
        self.assertEqual(found, device.keys())

    def test_2_claims(self):
        """one-time keys are claimed across, each once; their owner is told how many are left"""
        names = []
        for _ in range(3):
            body = {"one_time_keys": {self.sara.user_id: {self.sara.device_id: SIGNED}}}
            answer = self.nora.post("keys/claim", body)
            self.assertEqual(answer["failures"], {})
            names += answer["one_time_keys"].get(self.sara.user_id, {}).get(self.sara.device_id, {})
        self.assertEqual(names, [f"{SIGNED}:K00000", f"{SIGNED}:K00001"])
        self.assertEqual(self.sara.sync()["device_one_time_keys_count"], {SIGNED: 0})

    def test_3_to_device(self):
        """messages cross over, in order, once, to the device named and to all by *"""
        self.sara.sync()
        for i in range(20):
            target = self.sara.device_id if i % 2 else "*"
            self.nora.put(f"sendToDevice/com.example.note/a{i}", {"messages": {self.sara.user_id: {target: {"n": i}}}})
            self.nora.put(f"sendToDevice/com.example.note/a{i}", {"messages": {self.sara.user_id: {target: {"n": i}}}})
        got = []

        def take(answer):
            events = answer.get("to_device", {}).get("events", [])
            self.assertTrue(all(event["sender"] == self.nora.user_id for event in events))
            got.extend(event["content"]["n"] for event in events)
            return len(got) >= 20

        self.sara.sync_until(take)
        self.assertEqual(got, list(range(20)))
        self.assertEqual(self.sara.sync().get("to_device", {}).get("events", []), [])

    def test_4_cross_signing(self):
        """cross-signing keys cross over; the user-signing key does not; a signature by it stays at home"""
        keys, hers = CrossSigning(self.sara.user_id), CrossSigning(self.nora.user_id)
        self.sara.post("keys/device_signing/upload", keys.upload())
        self.nora.post("keys/device_signing/upload", hers.upload())
        self.wait_changed(self.nora, self.sara)
        answer = self.query(self.nora, self.sara)
        self.assertEqual(answer["master_keys"][self.sara.user_id], keys.upload()["master_key"])
        self.assertEqual(answer["self_signing_keys"][self.sara.user_id], keys.upload()["self_signing_key"])
        self.assertNotIn(self.sara.user_id, answer.get("user_signing_keys", {}))
        device_keys = self.device.keys()
        body = {self.sara.user_id: {self.sara.device_id: keys.self_signing.sign(device_keys, self.sara.user_id)}}
        self.assertEqual(self.sara.post("keys/signatures/upload", body), {"failures": {}})
        self.wait_changed(self.nora, self.sara)
        signatures = self.query(self.nora, self.sara)["device_keys"][self.sara.user_id][self.sara.device_id]["signatures"]
        self.assertIn(f"ed25519:{keys.self_signing.public}", signatures[self.sara.user_id])
        # Nora has verified Sara: she sees her own signature again, Sara does not.
        master = keys.master_key()
        body = {self.sara.user_id: {keys.master.public: hers.user_signing.sign(master, self.nora.user_id)}}
        self.assertEqual(self.nora.post("keys/signatures/upload", body), {"failures": {}})
        for client, sees in ((self.nora, True), (self.sara, False)):
            found = self.query(client, self.sara)["master_keys"][self.sara.user_id].get("signatures", {})
            self.assertEqual(self.nora.user_id in found, sees)

    def test_5_ends(self):
        """a device that ends is told across; so is who is met no more"""
        self.nora.sync()
        session = self.sara.post("login", {
            "type": "m.login.password", "password": "secret words",
            "identifier": {"type": "m.id.user", "user": self.sara.user_id},
        })  # fmt: skip
        second = Client(
            self.south.url, self.south.authority, session["access_token"], session["user_id"], session["device_id"]
        )
        Device(second).upload()
        self.wait_changed(self.nora, self.sara)
        self.assertIn(second.device_id, self.query(self.nora, self.sara)["device_keys"][self.sara.user_id])
        second.post("logout", {})
        self.wait_changed(self.nora, self.sara)
        self.assertNotIn(second.device_id, self.query(self.nora, self.sara)["device_keys"][self.sara.user_id])
        self.sara.leave(self.room_id)
        self.nora.sync_until(lambda answer: self.sara.user_id in answer.get("device_lists", {}).get("left", []))
        left = self.sara.sync_until(lambda answer: answer.get("device_lists", {}).get("left"))
        self.assertEqual(left, [self.nora.user_id])

    def test_6_partner_away(self):
        """a partner that does not answer is named under failures; the others' keys come all the same"""
        self.south.stop()
        answer = self.nora.post("keys/query", {"device_keys": {self.nora.user_id: [], self.sara.user_id: []}})
        self.assertIn(self.nora.user_id, answer["device_keys"])
        self.assertEqual(list(answer["failures"]), ["south.example"])
        answer = self.nora.post("keys/claim", {"one_time_keys": {self.sara.user_id: {self.sara.device_id: SIGNED}}})
        self.assertEqual(list(answer["failures"]), ["south.example"])
        answer = self.nora.post("keys/query", {"device_keys": {"@x:nowhere.example": []}})
        self.assertEqual(list(answer["failures"]), ["nowhere.example"])
        # What is said meanwhile waits for it.
        self.nora.put("sendToDevice/com.example.note/away", {"messages": {self.sara.user_id: {"*": {"n": "away"}}}})
        self.south.start([self.north])
        wait_until(
            lambda: [event for event in self.sara.sync().get("to_device", {}).get("events", [])
                     if event["content"] == {"n": "away"}],
            "the message does not arrive",
        )  # fmt: skip


tap.main()
