"""north.example and south.example: two servers with open doors that federate, for a test case of one class."""

import tempfile
import unittest
from pathlib import Path

from .matrix import Refused
from .open_servers import OpenServer
from .postgres import Given


class TwoServers(unittest.TestCase):
    """Both run while the tests of the class do; people are registered in the class's own setUpClass."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        cls.addClassCleanup(folder.cleanup)
        home = Path(folder.name)
        cls.cluster = Given()
        cls.addClassCleanup(cls.cluster.drop_all)
        cls.north, cls.south = (
            OpenServer(f"{short}.example", home / short, cls.cluster, home / "pki") for short in ("north", "south")
        )
        for server, other in ((cls.north, cls.south), (cls.south, cls.north)):
            cls.addClassCleanup(cls.end, server)
            server.start([other])

    @staticmethod
    def end(server):
        status = server.stop()
        if status:
            raise AssertionError(f"{server.name} did not end well: {status}\n{server.tail()}")

    def refused(self, status, errcode, act, *arguments, **options):
        """@act is refused so, with a sentence."""
        with self.assertRaises(Refused) as caught:
            act(*arguments, **options)
        refusal = caught.exception
        self.assertEqual((refusal.status, refusal.errcode), (status, errcode), refusal)
        self.assertTrue(refusal.body["error"])
