"""Bad requests: each gets its error code, and leaves nothing behind."""

import http.client
import json
import unittest

from harness import tap
from harness.matrix import quote
from harness.plain import Answer, PlainServer

API = "/_matrix/client/v3/"
JSON = {"Content-Type": "application/json"}


def nested(depth):
    """An object of @depth levels."""
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = PlainServer().start()
        cls.addClassCleanup(cls.server.__exit__)
        cls.anna = cls.server.register("anna")
        cls.room_id = cls.anna.create_room()
        cls.room = f"{API}rooms/{quote(cls.room_id)}/"

    def refused(self, answer, status, errcode, note=None):
        self.assertEqual(answer.status, status, (note, answer.body))
        self.assertIsInstance(answer.body, dict, note)
        self.assertEqual(answer.body["errcode"], errcode, (note, answer.body))
        self.assertGreater(len(answer.body["error"]), 10, "a sentence that helps")

    def rows(self):
        """How much the tables hold that clients write to."""
        return [
            self.server.sql(f"SELECT count(*) FROM {table}")
            for table in ("event", "log", "client_transaction", "account_data", "one_time_key", "device_key", "to_device")
        ]

    def announce(self, method, target, length):
        """The answer to headers that announce a body of @length bytes, of which nothing is sent."""
        connection = http.client.HTTPConnection(self.anna.url.hostname, self.anna.url.port, timeout=60)
        try:
            connection.putrequest(method, target)
            connection.putheader("Authorization", f"Bearer {self.anna.access_token}")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(length))
            connection.endheaders()
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, json.loads(answer.read()))
        finally:
            connection.close()

    # ---- bodies ----

    def test_json(self):
        """bodies that are no JSON, no object, or no event content: the right code each, and no event"""
        no_json, bad = (400, "M_NOT_JSON"), (400, "M_BAD_JSON")
        table = [
            (b"{", no_json), (b'{"a":1', no_json), (b'{"a":1}}', no_json), (b'{"a":1} x', no_json), (b"nonsense", no_json),
            (b'{"a":}', no_json), (b'{"a" 1}', no_json), (b"{'a':1}", no_json), (b'{"a":1,}', no_json), (b'{a:1}', no_json),
            (b'{"a":"\xff"}', no_json), (b'{"a":"\xc3"}', no_json), (b'{"a":"\xc0\xaf"}', no_json),
            (b'{"a":"\xed\xa0\x80"}', no_json), (b"\xef\xbb\xbf{}", no_json), ('{"a":1}'.encode("utf-16"), no_json),
            (b'{"a":"\\u0000"}', no_json), (b'{"a":"\0"}', no_json), (b"{}\0", no_json), (b'{"a\\u0000b":1}', no_json),
            (b'{"a":"\\ud800"}', no_json), (b'{"a":"\\udc00\\ud800"}', no_json), (b'{"a":"\n"}', no_json),
            (b'{"a":01}', no_json), (b'{"a":+1}', no_json), (b'{"a":NaN}', no_json), (b'{"a":Infinity}', no_json),
            (b'{"a":0x10}', no_json), (b'{"a":tru}', no_json), (b'{"a":"\\x"}', no_json),
            (b"[]", bad), (b"3", bad), (b'"text"', bad), (b"null", bad), (b"true", bad),
            (b'{"a":1,"a":2}', bad), (b'{"b":{"a":1,"\\u0061":2}}', bad),
            (b'{"a":0.5}', bad), (b'{"a":1e3}', bad), (b'{"a":1.0}', bad), (b'{"a":-0}', bad),
            (b'{"a":9007199254740992}', bad), (b'{"a":9007199254740993}', bad), (b'{"a":-9007199254740992}', bad),
            (b'{"a":123456789012345678901234567890}', bad), (b'{"a":[{"b":1e400}]}', bad),
            (nested(100), bad), (nested(5000), bad), (b"[" * 100000, bad),
        ]  # fmt: skip
        before = self.rows()
        for number, (body, expected) in enumerate(table):
            answer = self.anna.raw("PUT", f"{self.room}send/m.room.message/bad{number}", body, JSON)
            self.refused(answer, *expected, body[:60])
            answer = self.anna.raw("PUT", f"{self.room}state/com.example.bad/key", body, JSON)
            self.refused(answer, *expected, body[:60])
        self.assertEqual(self.rows(), before)
        for number, body in enumerate((
            b'{"a":9007199254740991}', b'{"a":-9007199254740991}', b' {"a" : [ ] } \r\n', '{"a":"žluť 🎉"}'.encode(),
            b'{"a":"\\ud83c\\udf89"}', b'{"a":"\\u0001\\""}', b'{"":""}', b'{"A":1,"a":2}', nested(99),
        )):  # fmt: skip
            answer = self.anna.raw("PUT", f"{self.room}send/com.example.good/{number}", body, JSON)
            self.assertEqual(answer.status, 200, (body[:60], answer.body))
            event = self.anna.get(f"rooms/{quote(self.room_id)}/event/{quote(answer.body['event_id'])}")
            self.assertEqual(event["content"], json.loads(body))

    def test_too_large(self):
        """bodies over their limit are refused before they are read to the end; events over theirs, too"""
        before = self.rows()
        too_large = (413, "M_TOO_LARGE")
        body = b'{"body":"' + b"x" * (1024 * 1024 - 11) + b'"}'
        self.assertEqual(len(body), 1024 * 1024)
        self.refused(self.anna.raw("PUT", f"{self.room}send/m.room.message/big1", body, JSON), *too_large)
        for method, target, limit in (
            ("PUT", f"{self.room}send/m.room.message/big2", 1024 * 1024), ("POST", f"{API}keys/upload", 4 * 1024 * 1024),
        ):  # fmt: skip
            self.refused(self.announce(method, target, limit + 1), *too_large)
            self.refused(self.announce(method, target, 10**15), *too_large)
        many = b'{"a":[' + b"1," * 300000 + b"1]}"
        self.refused(self.anna.raw("PUT", f"{self.room}send/m.room.message/many", many, JSON), 400, "M_BAD_JSON")
        self.assertEqual(self.rows(), before)
        # The largest that fits, and one byte more: by bisection, for what is added to the content has no fixed size.
        fits, fails = 60000, 70000
        while fails - fits > 1:
            middle = (fits + fails) // 2
            body = json.dumps({"body": "x" * middle}).encode()
            answer = self.anna.raw("PUT", f"{self.room}send/m.room.message/size{middle}", body, JSON)
            if answer.status == 200:
                fits = middle
            else:
                self.refused(answer, *too_large)
                fails = middle
        self.assertGreater(fits, 64000)
        self.assertLess(fits, 65536)

    def test_content_types(self):
        """a body of another type or coding is refused; without a type it is taken as JSON"""
        target, body = f"{self.room}send/m.room.message/", b'{"body":"x"}'
        self.assertEqual(self.anna.raw("PUT", target + "c1", body).status, 200)
        self.assertEqual(
            self.anna.raw("PUT", target + "c2", body, {"Content-Type": "application/json; charset=utf-8"}).status, 200
        )
        for number, headers in enumerate((
            {"Content-Type": "image/png"}, {"Content-Type": "multipart/form-data; boundary=x"},
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )):  # fmt: skip
            answer = self.anna.raw("PUT", f"{target}d{number}", body, headers)
            self.assertEqual(answer.status, 415, headers)
            self.assertIn("errcode", answer.body)

    def test_members_of_wrong_type(self):
        """a member of the wrong type is a 400, for every endpoint that reads it"""
        user = quote(self.anna.user_id)
        before = self.rows()
        for method, path, body in (
            ("POST", "createRoom", {"invite": "anna"}), ("POST", "createRoom", {"invite": [3]}),
            ("POST", "createRoom", {"initial_state": {}}), ("POST", "createRoom", {"room_version": 12}),
            ("POST", "createRoom", {"creation_content": []}), ("POST", "createRoom", {"topic": {}}),
            ("POST", f"rooms/{quote(self.room_id)}/invite", {"user_id": 3}),
            ("POST", f"rooms/{quote(self.room_id)}/invite", {"user_id": "anna"}),
            ("POST", f"rooms/{quote(self.room_id)}/invite", {}),
            ("POST", f"rooms/{quote(self.room_id)}/kick", {"user_id": ["x"]}),
            ("POST", f"rooms/{quote(self.room_id)}/ban", {}),
            ("PUT", f"rooms/{quote(self.room_id)}/typing/{user}", {"typing": "yes"}),
            ("PUT", f"rooms/{quote(self.room_id)}/state/m.room.member/{user}", {"membership": 3}),
            ("PUT", f"rooms/{quote(self.room_id)}/state/m.room.member/{user}", {}),
            ("PUT", f"rooms/{quote(self.room_id)}/state/m.room.power_levels/", {"users": {self.anna.user_id: "100"}}),
            ("PUT", f"rooms/{quote(self.room_id)}/state/m.room.power_levels/", {"ban": 50.5}),
            ("POST", f"user/{user}/filter", {"room": []}), ("POST", f"user/{user}/filter", {"room": {"rooms": "x"}}),
            ("POST", "keys/query", {"device_keys": []}), ("POST", "keys/claim", {"one_time_keys": 3}),
            ("PUT", "sendToDevice/m.x/t", {"messages": []}), ("POST", "login", {"type": 3}), ("POST", "login", {}),
            ("PUT", f"profile/{user}/displayname", {"displayname": 3}),
        ):  # fmt: skip
            status, errcode = self.anna.refused(method, path, body)
            self.assertIn(status, (400, 403), (path, body, errcode))
            self.assertTrue(errcode.startswith("M_"), (path, body))
        self.assertEqual(self.rows(), before)

    # ---- paths ----

    def test_unknown(self):
        """an unknown path is 404 M_UNRECOGNIZED, a known one with a wrong method 405 with what it serves"""
        for method, target in (
            ("GET", "/"), ("GET", "/_matrix/client/v3/nothing"), ("GET", "/_matrix/client/v99/sync"),
            ("POST", "/_matrix/client/v3/rooms"), ("GET", "/_matrix/client/v3/sync/"), ("GET", "/_matrix/client//v3/sync"),
            ("GET", "/_synapse/admin/v1/users"), ("GET", "/_matrix/federation/v1/version"), ("PUT", "/nothing"),
            ("GET", "/_matrix/client/v3/rooms/%21a/"), ("GET", "/_matrix/client/../client/versions"),
        ):  # fmt: skip
            self.refused(self.anna.raw(method, target), 404, "M_UNRECOGNIZED", target)
        for method, target, allowed in (
            ("POST", "/_matrix/client/versions", "GET"), ("DELETE", "/_matrix/client/v3/sync", "GET"),
            ("GET", "/_matrix/client/v3/createRoom", "POST"), ("PUT", "/_matrix/client/v3/keys/upload", "POST"),
            ("POST", f"{self.room}send/m.room.message/x", "PUT"), ("FROB", "/_matrix/client/v3/sync", "GET"),
        ):  # fmt: skip
            answer = self.anna.raw(method, target, b"{}", JSON)
            self.refused(answer, 405, "M_UNRECOGNIZED", target)
            self.assertIn(allowed, answer.headers["Allow"])

    def test_paths(self):
        """broken escapes and U+0000 are refused; whatever else a segment holds is data"""
        for target in (
            f"{API}rooms/%zz/state", f"{API}rooms/%2/state", f"{API}rooms/%/state", f"{API}rooms/%00/state",
            f"{API}rooms/%ff/state", f"{API}rooms/%c0%af/state", f"{API}user/%ed%a0%80/filter/x",
        ):  # fmt: skip
            self.refused(self.anna.raw("GET", target), 400, "M_INVALID_PARAM", target)
        for room_id in ("nonsense", "!", "!a:b", "!" + "x" * 300, "#a:b", "..", "!%2e%2e"):
            for method, path, body in (
                ("GET", "state", None), ("PUT", "send/m.room.message/p", b"{}"), ("POST", "join", b"{}"),
                ("GET", "messages?dir=b", None), ("POST", "leave", b"{}"),
            ):  # fmt: skip
                answer = self.anna.raw(method, f"{API}rooms/{quote(room_id)}/{path}", body)
                self.assertIn(answer.status, (400, 403, 404), (room_id, path, answer.body))
                self.assertIn("errcode", answer.body)
        # A state key may hold anything.
        key = "a/b c%d?e#f+🎉"
        self.anna.put(f"rooms/{quote(self.room_id)}/state/com.example.odd/{quote(key)}", {"x": 1})
        state = self.anna.get(f"rooms/{quote(self.room_id)}/state")
        self.assertIn(key, [event["state_key"] for event in state])

    def test_limits_of_queries(self):
        """numbers in queries: none, too small, too large and no number at all"""
        room = f"rooms/{quote(self.room_id)}/"
        event_id = self.anna.send(self.room_id, "x")
        for path, query in (
            (room + "messages", {"dir": "b", "limit": "x"}), (room + "messages", {"dir": "b", "limit": "-1"}),
            (room + "messages", {"dir": "b", "limit": "1.5"}), (room + "messages", {"dir": "c"}),
            (room + "messages", {"dir": "b", "from": "x"}), (room + "messages", {"dir": "b", "filter": "{"}),
            (room + "messages", {"dir": "b", "limit": "99999999999999999999"}),
            (room + f"context/{quote(event_id)}", {"limit": "x"}), (room + "members", {"at": "x"}),
        ):  # fmt: skip
            status, errcode = self.anna.refused("GET", path, **query)
            self.assertEqual(status, 400, (path, query))
            self.assertIn(errcode, ("M_INVALID_PARAM", "M_BAD_JSON", "M_NOT_JSON"), (path, query))
        self.assertEqual(self.anna.refused("GET", room + "messages", dir="b", limit="100000")[0], 200)

    # ---- callers ----

    def test_tokens(self):
        """no token, a wrong one, one in the query, one that has ended: 401 with the right code"""
        missing, unknown = (401, "M_MISSING_TOKEN"), (401, "M_UNKNOWN_TOKEN")
        target = f"{API}account/whoami"
        self.refused(self.anna.raw("GET", target, token=False), *missing)
        self.refused(self.anna.raw("GET", f"{target}?access_token={self.anna.access_token}", token=False), *missing)
        for header, expected in (
            ("Bearer", missing), ("Basic abc", missing), (self.anna.access_token, missing), ("Bearer ", missing),
            ("Bearer nonsense", unknown), (f"Bearer {self.anna.access_token}x", unknown),
            (f"Bearer {self.anna.access_token[:-1]}", unknown), (f"Bearer {'x' * 5000}", unknown),
            (f"Bearer {self.anna.access_token} {self.anna.access_token}", unknown),
            ("Bearer ' OR 1=1 --", unknown), (f"Bearer {self.anna.access_token.swapcase()}", unknown),
        ):  # fmt: skip
            answer = self.anna.raw("GET", target, headers={"Authorization": header}, token=False)
            self.refused(answer, *expected, header[:40])
            if expected is unknown:
                self.assertIs(answer.body["soft_logout"], False)
        for method, path in (("GET", "sync"), ("POST", "createRoom"), ("POST", "keys/upload"), ("POST", "logout")):
            self.refused(self.anna.raw(method, API + path, b"{}" if method == "POST" else None, token=False), *missing)
        self.assertEqual(self.anna.raw("GET", target, headers={
            "Authorization": f"bearer {self.anna.access_token}"}, token=False).status, 200)  # fmt: skip
        other = self.server.login(self.anna)
        other.post("logout", {})
        self.refused(other.raw("GET", target), *unknown)
        self.assertEqual(self.anna.raw("GET", target).body["user_id"], self.anna.user_id)

    def test_cors(self):
        """browsers of any origin may call: preflights of any path, and every answer, errors too"""
        for target in (f"{API}sync", f"{self.room}send/m.room.message/x", "/_matrix/client/v3/nothing"):
            answer = self.anna.raw("OPTIONS", target, headers={
                "Origin": "https://app.example", "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "authorization, content-type",
            }, token=False)  # fmt: skip
            self.assertIn(answer.status, (200, 204))
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "*")
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                self.assertIn(method, answer.headers["Access-Control-Allow-Methods"])
            for header in ("Authorization", "Content-Type"):
                self.assertIn(header, answer.headers["Access-Control-Allow-Headers"])
        for answer in (
            self.anna.raw("GET", "/_matrix/client/versions"), self.anna.raw("GET", f"{API}account/whoami"),
            self.anna.raw("GET", f"{API}account/whoami", token=False), self.anna.raw("GET", f"{API}nothing"),
            self.anna.raw("PUT", f"{self.room}send/m.room.message/x", b"{", JSON),
        ):  # fmt: skip
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "*")
            self.assertIn("application/json", answer.headers["Content-Type"])


tap.main()
