"""The client API as a plain script sees it: for the demo, for checks beside real clients, for set-up."""

import concurrent.futures
import http.client
import json
import ssl
import time
import urllib.parse


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status, body):
        self.status, self.body = status, body
        self.errcode = body.get("errcode") if isinstance(body, dict) else None
        super().__init__(f"{status} {json.dumps(body)}")


class Client:
    """One session of one person.  Not for several threads: see twin()."""

    def __init__(self, url, authority, access_token=None, user_id=None, device_id=None):
        self.url = urllib.parse.urlsplit(url)
        self.authority = authority
        self.context = ssl.create_default_context(cafile=str(authority)) if self.url.scheme == "https" else None
        self.access_token, self.user_id, self.device_id = access_token, user_id, device_id
        self.since = None
        self.connection = None
        self.transaction = 0

    def twin(self):
        """The same session on a connection of its own."""
        return type(self)(self.url.geturl(), self.authority, self.access_token, self.user_id, self.device_id)

    def request(self, method, path, body=None, *, timeout_s=60, query=None):
        if query:
            path += "?" + urllib.parse.urlencode(query)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.access_token:
            headers["Authorization"] = f"Bearer {self.access_token}"
        sent = None if body is None else json.dumps(body)
        for attempt in (1, 2):
            fresh = self.connection is None
            if fresh:
                if self.context:
                    self.connection = http.client.HTTPSConnection(
                        self.url.hostname, self.url.port, timeout=timeout_s, context=self.context
                    )
                else:
                    self.connection = http.client.HTTPConnection(
                        self.url.hostname, self.url.port, timeout=timeout_s
                    )
            try:
                self.connection.request(method, path, sent, headers)
                answer = self.connection.getresponse()
                text = answer.read()
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # A kept connection that the server has closed meanwhile: once more on a fresh one.
                self.close()
                if fresh or attempt == 2:
                    raise
        try:
            parsed = json.loads(text) if text else {}
        except ValueError:
            parsed = text.decode(errors="replace")
        if answer.status == 429:
            time.sleep(parsed.get("retry_after_ms", 1000) / 1000)
            return self.request(method, path, body, timeout_s=timeout_s)
        if answer.status != 200:
            raise Refused(answer.status, parsed)
        return parsed

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def get(self, path, **query):
        return self.request("GET", "/_matrix/client/v3/" + path, query=query)

    def post(self, path, body):
        return self.request("POST", "/_matrix/client/v3/" + path, body)

    def put(self, path, body):
        return self.request("PUT", "/_matrix/client/v3/" + path, body)

    def create_room(self, **body):
        return self.post("createRoom", {"preset": "private_chat", **body})["room_id"]

    def invite(self, room_id, user_id):
        return self.post(f"rooms/{quote(room_id)}/invite", {"user_id": user_id})

    def join(self, room_id, via=()):
        servers = "?" + urllib.parse.urlencode([("via", name) for name in via]) if via else ""
        return self.post(f"join/{quote(room_id)}{servers}", {})

    def leave(self, room_id):
        return self.post(f"rooms/{quote(room_id)}/leave", {})

    def send(self, room_id, text, transaction=None):
        self.transaction += 1
        name = transaction or f"t{time.monotonic_ns()}-{self.transaction}"
        return self.put(
            f"rooms/{quote(room_id)}/send/m.room.message/{quote(name)}", {"msgtype": "m.text", "body": text}
        )["event_id"]

    def sync(self, timeout_ms=0):
        query = {"timeout": timeout_ms}
        if self.since:
            query["since"] = self.since
        answer = self.get("sync", **query)
        self.since = answer["next_batch"]
        return answer

    def sync_with(self, **query):
        """A sync with these parameters that leaves self.since alone."""
        return self.get("sync", **{"timeout": 0, **query})

    def sync_until(self, find, *, limit_s=30):
        """Sync until @find(answer) gives something true; what it gave."""
        deadline = time.monotonic() + limit_s
        while True:
            found = find(self.sync(timeout_ms=5000 if self.since else 0))
            if found:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.user_id}: nothing of the kind within {limit_s} s")

    def wait_invited(self, room_id):
        return self.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("invite", {}))

    def wait_event(self, room_id, event_id):
        def find(answer):
            timeline = answer.get("rooms", {}).get("join", {}).get(room_id, {}).get("timeline", {})
            return next((event for event in timeline.get("events", []) if event["event_id"] == event_id), None)

        return self.sync_until(find)


class Parked:
    """A sync of @person that surely waits on the server: a newer sync of a device ends the older one's wait, so
    of two begun together the first to end tells that the other waits."""

    def __init__(self, person, since=None, timeout_ms=120000, **query):
        query = {"since": since or person.since, "timeout": timeout_ms, **query}
        self.pool = concurrent.futures.ThreadPoolExecutor(2)
        waits = [self.pool.submit(person.twin().sync_with, **query) for _ in range(2)]
        done, waiting = concurrent.futures.wait(waits, 60, concurrent.futures.FIRST_COMPLETED)
        if len(done) != 1:
            raise AssertionError(f"{len(done)} of two syncs ended: {[future.result() for future in done]}")
        self.older, self.waiting = done.pop().result(), waiting.pop()

    def is_waiting(self):
        return not self.waiting.done()

    def result(self):
        """What it answers; raises Refused when it is refused."""
        try:
            return self.waiting.result(60)
        finally:
            self.pool.shutdown(wait=False)


def quote(text):
    return urllib.parse.quote(text, safe="")
