"""The state of rooms in the database: bytes for each state change, beside Synapse's state groups.

Both store the same histories in the same PostgreSQL through their own code: ours by the state trie and the writer lane
(tests/bench/bench_state.c), Synapse's by its own state store, its own schema and psycopg2 (tests/bench/synapse_state.py).
A room grows to its members by one join after another; then its members come, go and change their names, and now and
then its topic, name and power levels change.  Counted are the tables that hold snapshots of state, with their indexes
and what is stored out of line, after VACUUM: state_node, and state_groups with its edges and entries.  The links from
events to states are counted on neither side.
"""

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHANGES = 2000
SIZES = (10, 100, 1000, 10000)
AIMS = {100: 0.5, 10000: 0.1}
TABLES = {"chancery": ("state_node",), "synapse": ("state_groups", "state_group_edges", "state_groups_state")}


def identifier(sigil, text):
    return sigil + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def history(members):
    """The room's id, its growth, and the changes that are measured: (type, state key, event id) each."""
    room_id, chance, serial = identifier("!", f"room of {members}"), random.Random(members), 0

    def event(kind, state_key):
        nonlocal serial
        serial += 1
        return kind, state_key, identifier("$", f"{room_id} {serial}")

    users = [f"@official{number}:one.example" for number in range(members)]
    growth = [event("m.room.create", ""), event("m.room.member", users[0])]
    growth += [event(f"m.room.{kind}", "") for kind in ("power_levels", "join_rules", "history_visibility", "encryption")]
    growth += [event("m.room.member", user) for user in users[1:]]
    changes = []
    for _ in range(CHANGES):
        kind = chance.choices(("member", "topic", "name", "power_levels"), (90, 4, 3, 3))[0]
        changes.append(event(f"m.room.{kind}", chance.choice(users) if kind == "member" else ""))
    return room_id, growth, changes


class Side:
    """One implementation: a process that stores what it is told in a database of its own."""

    def __init__(self, cluster, name, command):
        self.cluster, self.name = cluster, name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(room_id="none", changes=[])  # its tables are there now

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended")
        return json.loads(answer)

    def bytes(self):
        tables = TABLES[self.name]
        for table in tables:
            self.cluster.sql(f"VACUUM {table}", self.name)
        sizes = " + ".join(f"pg_total_relation_size('{table}')" for table in tables)
        return int(self.cluster.sql(f"SELECT {sizes}", self.name))

    def measure(self, room_id, growth, changes):
        """Bytes for each change after the room has grown, and for each of all; and the state in the end."""
        empty = self.bytes()
        self.ask(room_id=room_id, changes=growth)
        grown = self.bytes()
        self.ask(room_id=room_id, changes=changes)
        full = self.bytes()
        state = self.ask(room_id=room_id, read=True)
        return (full - grown) / len(changes), (full - empty) / (len(growth) + len(changes)), sorted(state)

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


def print_table(cluster):
    """False when the two do not come to the same state."""
    for name in TABLES:
        cluster.create_database(name)
    program = os.environ.get("CHANCERY_BENCH_STATE", "build/release/tests/bench/bench_state")
    synapse = [sys.executable, HERE / "synapse_state.py", cluster.home, "synapse"]
    sides = [Side(cluster, "chancery", [program, cluster.conninfo("chancery")]), Side(cluster, "synapse", synapse)]
    print(f"\nstate in the database, bytes for each of {CHANGES:,} state changes of a grown room (and of all its changes):")
    print(f"{'members':>10}{'Chancery':>20}{'Synapse':>20}{'ratio':>8}{'aim':>8}")
    try:
        for members in SIZES:
            room = history(members)
            ours, theirs = (side.measure(*room) for side in sides)
            if ours[2] != theirs[2]:
                print(f"{members:10,}  the states are not the same")
                return False
            ratio, aim = ours[0] / theirs[0], AIMS.get(members)
            columns = "".join(f"{f'{one:,.0f} ({every:,.0f})':>20}" for one, every, _ in (ours, theirs))
            verdict = "" if aim is None else f"{aim:8.1f}  {'met' if ratio <= aim else 'missed'}"
            print(f"{members:10,}{columns}{ratio:8.3f}{verdict}", flush=True)
    finally:
        for side in sides:
            side.close()
    print("(both give the same state back)")
    return True
