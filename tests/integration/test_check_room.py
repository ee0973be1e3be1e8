"""Random rooms: our room protocol and Synapse's own functions come to the same verdicts."""

import os
import subprocess
import unittest

from harness import tap
from harness.processes import ROOT

GRAPHS = int(os.environ.get("CHANCERY_GRAPHS", "2000"))


class CheckRoom(unittest.TestCase):
    def test_random_rooms(self):
        """event ids, redactions, authorisation and state resolution of random rooms agree with another implementation"""
        done = subprocess.run(
            [ROOT / "var/venv/bin/python3", ROOT / "tests/check/check_room.py", "--graphs", str(GRAPHS)],
            capture_output=True,
            text=True,
            timeout=1500,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-4000:])
        print(f"# figure: {done.stdout.splitlines()[-1]}")


tap.main()
