"""`make bench-room`: the room protocol beside Synapse's own Python functions, in one run on one machine.

Both have the same events in memory and do the same work; what Synapse would ask its database during a state
resolution (events, and the difference of auth chains with its conflicted subgraph) is answered to it at once, out of
what was found before the clock ran.  Ours finds the difference of the states, the chains and the subgraph by itself.
All times are processor time, so that what else the machine does counts for neither; the ratios are what matters.
What state costs in the database is measured at the end (tests/bench/state_bytes.py).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "check"), str(TESTS)]

import state_bytes  # noqa: E402
import synapse_rooms  # noqa: E402
from harness.postgres import Cluster  # noqa: E402
from signedjson.key import get_verify_key  # noqa: E402
from signedjson.sign import verify_signed_json  # noqa: E402
from synapse import event_auth  # noqa: E402
from synapse.crypto.event_signing import check_event_content_hash  # noqa: E402
from synapse.events.utils import prune_event  # noqa: E402
from synapse.state import v2  # noqa: E402

CREATOR = "@creator:one"
REPEATED_S = 2.0
RESOLUTIONS = 3


class PreparedStore(synapse_rooms.Store):
    """Answers what a database would, without the time that it takes."""

    difference = None

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted_state, additional):
        if self.difference is None:
            self.difference = self.find_difference(state_sets, set(conflicted_state or ()) | set(additional or ()))
        return self.difference

    def find_difference(self, state_sets, starts):
        chains = [self.chain(ids) for ids in state_sets]
        difference = set.union(*chains) - set.intersection(*chains)
        # Oldest first: an event is above a start if it is one or cites such an event.
        above = set()
        for event_id in self.room.order:
            if event_id in starts or above.intersection(self.room.events[event_id].auth_event_ids()):
                above.add(event_id)
        return synapse_rooms.StateDifference(
            auth_difference=difference, conflicted_subgraph=self.chain(starts) & above
        )


class BigRoom(synapse_rooms.Room):
    """@members in a room of version 12, and two forks of it in which @keys entries of the state differ."""

    def __init__(self, members, keys):
        self.members, self.keys = members, keys
        super().__init__("12")
        self.make_room()

    def put(self, sender, kind, state_key, content, state):
        auth = self.auth_ids(kind, sender, state_key, content, state) if self.order else []
        prev = [self.newest] if self.order else []
        number = len(self.order) + 1
        event = self.build(sender, kind, state_key, content, prev, auth, number, number, room_id=self.room_id)
        self.events[event.event_id] = event
        self.order.append(event.event_id)
        self.newest = event.event_id
        if state_key is not None:
            state[(kind, state_key)] = event.event_id
        return event

    def make_room(self):
        self.store = PreparedStore(self)
        state = {}
        create = self.put(CREATOR, "m.room.create", "", {"room_version": "12"}, state)
        self.room_id = create.room_id
        users = [f"@user{n}:one" for n in range(self.members - 1)]
        self.put(CREATOR, "m.room.member", CREATOR, {"membership": "join"}, state)
        self.put(CREATOR, "m.room.power_levels", "", {"users": {users[0]: 50}}, state)
        self.put(CREATOR, "m.room.join_rules", "", {"join_rule": "public"}, state)
        for user in users:
            self.put(user, "m.room.member", user, {"membership": "join"}, state)
        self.message = self.put(users[0], "m.room.message", None, {"body": "x" * 100, "msgtype": "m.text"}, state)
        base, self.states = self.newest, []
        for side in ("left", "right"):
            self.newest, fork = base, dict(state)
            level = {"users": {users[0]: 50, users[1]: 10 if side == "left" else 20}}
            self.put(CREATOR, "m.room.power_levels", "", level, fork)
            self.put(CREATOR, "m.room.name", "", {"name": side}, fork)
            for user in users[: self.keys - 2]:
                self.put(user, "m.room.member", user, {"membership": "join", "displayname": side}, fork)
            self.states.append(fork)

    def differing(self):
        left, right = self.states
        return sum(left.get(key) != right.get(key) for key in left.keys() | right.keys())


def per_second(function):
    count, began = 0, time.process_time()
    while time.process_time() - began < REPEATED_S:
        for _ in range(50):
            function()
        count += 50
    return count / (time.process_time() - began)


def synapse_figures(room):
    message = room.message
    auth_events = [room.events[i] for i in message.auth_event_ids()]
    key = get_verify_key(synapse_rooms.KEY)

    def auth():
        synapse_rooms.run(event_auth.check_state_independent_auth_rules(room.store, message))
        event_auth.check_state_dependent_auth_rules(message, auth_events)

    def verify():
        assert check_event_content_hash(message)
        verify_signed_json(prune_event(message).get_pdu_json(), "one", key)

    room.resolve(room.states)  # the answers of the database are found here
    times = []
    for _ in range(RESOLUTIONS):
        began = time.process_time()
        resolved = room.resolve(room.states)
        times.append((time.process_time() - began) * 1000)
    return {
        "resolved": list(resolved.values()),
        "resolve_ms": statistics.median(times),
        "auth_per_s": per_second(auth),
        "verify_per_s": per_second(verify),
    }


def our_figures(program, room):
    file = {
        "version": "12",
        "events": [json.dumps(room.events[i].get_pdu_json(), ensure_ascii=False) for i in room.order],
        "message": room.message.event_id,
        "states": [list(state.values()) for state in room.states],
        "server": "one",
        "key_id": f"{synapse_rooms.KEY.alg}:{synapse_rooms.KEY.version}",
        "public_key": get_verify_key(synapse_rooms.KEY).encode().hex(),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "room.json"
        path.write_text(json.dumps(file, ensure_ascii=False))
        done = subprocess.run([program, path], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, default=10000)
    parser.add_argument("--keys", type=int, default=1000, help="on how many the two forks do not agree")
    options = parser.parse_args()
    program = os.environ.get("CHANCERY_BENCH_ROOM", "build/release/tests/bench/bench_room")
    room = BigRoom(options.members, options.keys)
    print(f"a room of version 12, {options.members} members, {len(room.order)} events; "
          f"two forks that differ in {room.differing()} keys", flush=True)
    ours, theirs = our_figures(program, room), synapse_figures(room)
    if sorted(ours["resolved"]) != sorted(theirs["resolved"]):
        print("the resolved states are not the same")
        return 1
    print(f"{'':34}{'Chancery':>14}{'Synapse':>14}{'ratio':>8}")
    for name, what in (("auth_per_s", "auth check of a message, a second"),
                       ("verify_per_s", "signature and hash, a second")):
        print(f"{what:34}{ours[name]:14,.0f}{theirs[name]:14,.0f}{ours[name] / theirs[name]:8.1f}")
    print(f"{'resolution of the forks, ms':34}{ours['resolve_ms']:14.1f}{theirs['resolve_ms']:14.1f}"
          f"{theirs['resolve_ms'] / ours['resolve_ms']:8.1f}  (aims: under 50 ms, 20 times)")
    print("(both resolve to the same state)\n\nstate, nothing in memory before:")
    print(f"{'members':>10}{'find, us':>12}{'nodes read':>12}{'change, us':>12}{'nodes made':>12}{'bytes stored':>14}")
    for row in ours["tries"]:
        print(f"{row['members']:10,.0f}{row['find_us']:12.1f}{row['find_nodes']:12.1f}{row['change_us']:12.1f}"
              f"{row['change_nodes']:12.1f}{row['change_bytes']:14,.0f}", flush=True)
    with Cluster() as cluster:
        return 0 if state_bytes.print_table(cluster) else 1


if __name__ == "__main__":
    sys.exit(main())
