"""One server with open doors and a plain HTTP client port, for tests of the client API.

Needs CHANCERY_TEST_DATABASE (a superuser's conninfo; the database made there is dropped at the end) and
CHANCERY_PROGRAM, both set by tests/run.
"""

import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import tempfile
import unittest
from collections import namedtuple
from pathlib import Path

from .matrix import Client, Refused, quote
from .postgres import psql
from .processes import Failed, start, stop, wait_until

NAME = "plain.example"
PASSWORD = "secret words"

Answer = namedtuple("Answer", "status headers body")


class Person(Client):
    """A session, with what tests need beside a client's usual acts."""

    def raw(self, method, target, body=None, headers=None, token=True):
        """@body: the bytes as they are.  Any status is an answer."""
        sent = dict(headers or {})
        if token and self.access_token:
            sent.setdefault("Authorization", f"Bearer {self.access_token}")
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)
        try:
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            parsed = json.loads(text) if text else None
        except ValueError:
            parsed = text
        return Answer(answer.status, answer.headers, parsed)

    def refused(self, method, path, body=None, **query):
        """The (status, errcode) with which a request is refused; (200, None) when it is not."""
        try:
            self.request(method, "/_matrix/client/v3/" + path, body, query=query)
        except Refused as refusal:
            return refusal.status, refusal.errcode
        return 200, None

    def catch_up(self):
        """Have everything that there is now."""
        while True:
            before = self.since
            answer = self.sync()
            if not any(answer.get("rooms", {}).get(part) for part in ("join", "invite", "leave")) or before is None:
                return self

    def state(self, room_id, event_type, content, state_key=""):
        path = f"rooms/{quote(room_id)}/state/{quote(event_type)}/{quote(state_key)}"
        return self.put(path, content)["event_id"]

    def messages(self, room_id, **query):
        return self.get(f"rooms/{quote(room_id)}/messages", **query)


class PlainServer:
    """Use it as a context: started with an empty database, gone afterwards."""

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="chancery-plain-", dir="/tmp"))
        self.database = f"plain_{os.getpid()}_{self.home.name[-8:]}".lower()
        self.log = self.home / "log"
        self.process = None
        self.url = None

    @property
    def conninfo(self):
        return re.sub(r"dbname=\S+", "", os.environ["CHANCERY_TEST_DATABASE"]) + f" dbname={self.database}"

    def sql(self, text):
        return psql(self.conninfo, text)

    def start(self):
        psql(
            os.environ["CHANCERY_TEST_DATABASE"],
            f"CREATE DATABASE \"{self.database}\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
        )
        return self.serve()

    def serve(self):
        with open(self.log, "ab") as log:
            offset = log.tell()
            self.process = start(
                [Path(os.environ["CHANCERY_PROGRAM"]).parent / "openserver", "--server-name", NAME]
                + ["--database", self.conninfo, "--state-directory", self.home / "state"]
                + ["--plain-client", "--port", 0],
                stdout=log, stderr=log,
            )  # fmt: skip

        def ready():
            return re.search(rb"ready client=(\S+)", self.log.read_bytes()[offset:])

        try:
            found = wait_until(ready, "openserver does not start", process=self.process)
        except Failed as failure:
            raise Failed(f"{failure}\n{self.tail()}") from None
        self.url = f"http://{found.group(1).decode()}"
        return self

    def stop(self):
        return stop(self.process, first=signal.SIGTERM) if self.process else None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        status = self.stop()
        psql(os.environ["CHANCERY_TEST_DATABASE"], f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
        tail = self.tail(8000)
        shutil.rmtree(self.home)
        if status != 0:
            raise Failed(f"the server ended with {status}\n{tail}")

    def tail(self, size=3000):
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def nobody(self):
        return Person(self.url, None)

    def _session(self, path, body):
        session = self.nobody().post(path, body)
        return Person(self.url, None, session["access_token"], session["user_id"], session["device_id"])

    def register(self, name):
        return self._session("register", {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}})

    def login(self, person, device_id=None):
        """One more device of @person."""
        body = {
            "type": "m.login.password", "password": PASSWORD,
            "identifier": {"type": "m.id.user", "user": person.user_id},
        }  # fmt: skip
        return self._session("login", body | ({"device_id": device_id} if device_id else {}))


class ThreePeople(unittest.TestCase):
    """One server for the tests of a class, with anna, berta and carl."""

    @classmethod
    def setUpClass(cls):
        cls.server = PlainServer().start()
        cls.addClassCleanup(cls.server.__exit__)
        cls.anna, cls.berta, cls.carl = (cls.server.register(name) for name in ("anna", "berta", "carl"))

    def hall(self, *members, **options):
        """A new room of anna's with @members joined."""
        room_id = self.anna.create_room(invite=[person.user_id for person in members], **options)
        for person in members:
            person.join(room_id)
        return room_id


def at_once(*calls):
    """Run @calls at the same time, each on a thread; their results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
