"""`make check-room`: the room protocol against Synapse's own Python functions.

Random rooms of every version that we support, with forks, bans, power changes, join-rule changes, rejected events and
hostile shapes.  Synapse decides what each event's id and redacted form are, whether the event stands on its auth
events and on the state before it, and what several states resolve to; we are asked the same
(tests/check/room_answers.c), and the answers are compared.  A graph is named by its seed and can be played again.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path

from signedjson.key import decode_signing_key_base64
from signedjson.sign import sign_json
from synapse import event_auth
from synapse.api.errors import SynapseError
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS, StateResolutionVersions
from synapse.crypto.event_signing import compute_content_hash, compute_event_signature
from synapse.events import make_event_from_dict
from synapse.events.utils import prune_event
from synapse.state import v1, v2
from synapse.storage.databases.main.event_federation import StateDifference
from unpaddedbase64 import encode_base64

KEY = decode_signing_key_base64("ed25519", "1", "Y2hhbmNlcnkgdGVzdCBrZXksIG9mIG5vIHVzZSBhdCA")
USERS = ["@alice:one", "@bob:one", "@carol:two", "@dan:two", "@eve:three", "@mallory:three"]
VERSIONS = [str(number) for number in range(1, 13)]
DIFFERENCES_MAX = 20
STATE_KINDS = ["m.room.name", "m.room.topic", "org.example.odd"]


def run(coroutine):
    """The functions of Synapse are asynchronous; nothing here ever waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("Synapse waits for something")


class Clock:
    async def sleep(self, duration):
        return None


class Store:
    """What Synapse's state resolution and auth checks read."""

    def __init__(self, room):
        self.room = room

    async def get_events(self, event_ids, redact_behaviour=None, allow_rejected=False, **_):
        found = {i: self.room.events[i] for i in event_ids if i in self.room.events}
        return {i: e for i, e in found.items() if allow_rejected or not e.rejected_reason}

    async def get_event(self, event_id, **_):
        return self.room.events[event_id]

    def chain(self, event_ids):
        seen, waiting = set(), list(event_ids)
        while waiting:
            event_id = waiting.pop()
            if event_id not in seen:
                seen.add(event_id)
                waiting += self.room.events[event_id].auth_event_ids()
        return seen

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted_state, additional):
        chains = [self.chain(ids) for ids in state_sets]
        difference = set.union(*chains) - set.intersection(*chains)
        subgraph = None
        if conflicted_state is not None:
            starts = set(conflicted_state) | set(additional or ())
            below = self.chain(starts)
            subgraph = {i for i in below if self.chain([i]) & starts}
        return StateDifference(auth_difference=difference, conflicted_subgraph=subgraph)


class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question, ensure_ascii=False) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("room_answers ended")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


class Room:
    """One random graph, as Synapse sees it."""

    def __init__(self, version_id, seed):
        self.random = random.Random(f"{version_id}/{seed}")
        self.version = KNOWN_ROOM_VERSIONS[version_id]
        self.v12 = self.version.msc4291_room_ids_as_hashes
        self.events, self.order, self.after, self.before = {}, [], {}, {}
        self.store = Store(self)
        self.clock_ms = 1_700_000_000_000
        self.room_id = None if self.v12 else f"!room{seed}:one"
        self.verdicts, self.why = {}, {}  # event id -> (own, state), and why not
        self.make_room()

    # ---- events ----

    def build(self, sender, kind, state_key, content, prev, auth, depth, redacts=None):
        pairs = self.version.event_format == 1
        self.clock_ms += self.random.choice([-500, 0, 1, 1, 1000])
        event = {
            "type": kind,
            "sender": sender,
            "content": content,
            "origin_server_ts": self.clock_ms,
            "depth": depth,
            "prev_events": [[i, {"sha256": "x"}] for i in prev] if pairs else prev,
            "auth_events": [[i, {"sha256": "x"}] for i in auth] if pairs else auth,
        }
        if self.room_id is not None:
            event["room_id"] = self.room_id
        if state_key is not None:
            event["state_key"] = state_key
        if redacts is not None:
            if self.version.updated_redaction_rules:
                content["redacts"] = redacts
            else:
                event["redacts"] = redacts
        if pairs:
            event["event_id"] = f"${len(self.order)}x{self.random.randrange(10**6)}:{sender.split(':')[1]}"
        name, digest = compute_content_hash(event, hashlib.sha256)
        event["hashes"] = {name: encode_base64(digest)}
        event["signatures"] = {}
        servers = {sender.split(":")[1]}
        authorising = content.get("join_authorised_via_users_server")
        if isinstance(authorising, str) and ":" in authorising:
            servers.add(authorising.split(":")[1])
        for server in sorted(servers):
            signed = compute_event_signature(self.version, event, server, KEY)
            event["signatures"].update(signed)
        return make_event_from_dict(event, self.version)

    def judge(self, event, state):
        """Does it stand on its own auth events; on @state?"""

        def allowed(check):
            try:
                check()
                return True
            # What its types say cannot be is refused before its rules run, on a real server.
            except (SynapseError, KeyError, TypeError) as error:
                self.why[event.event_id] = f"{type(error).__name__} {error}"
                return False

        own_state = {(e.type, e.state_key): e for e in (self.events[i] for i in event.auth_event_ids())}
        own = allowed(lambda: run(event_auth.check_state_independent_auth_rules(self.store, event))) and allowed(
            lambda: event_auth.check_state_dependent_auth_rules(event, own_state.values())
        )
        on_state = allowed(
            lambda: event_auth.check_state_dependent_auth_rules(event, [self.events[i] for i in state.values()])
        )
        return own, on_state

    def add(self, event, prev, state):
        if event.event_id in self.events:
            return
        own, on_state = self.judge(event, state)
        self.verdicts[event.event_id] = (own, on_state)
        if not (own and on_state):
            event = make_event_from_dict(event.get_pdu_json(), self.version, rejected_reason="no")
        self.events[event.event_id] = event
        self.order.append(event.event_id)
        self.before[event.event_id] = state
        state = dict(state)
        if event.is_state() and own and on_state:
            state[(event.type, event.state_key)] = event.event_id
        self.after[event.event_id] = state
        return event

    def resolve(self, states):
        if self.version.state_res == StateResolutionVersions.V1:
            factory = self.store.get_events
            return run(v1.resolve_events_with_store(self.room_id, self.version, states, dict(self.events), factory))
        return run(v2.resolve_events_with_store(Clock(), self.room_id, self.version, states, None, self.store))

    # ---- a room's life ----

    def make_room(self):
        content = {"room_version": self.version.identifier}
        creator = USERS[0]
        if not self.version.implicit_room_creator:
            content["creator"] = creator
        if self.version.msc4289_creator_power_enabled and self.random.random() < 0.3:
            content["additional_creators"] = [USERS[2]]
        self.federates = self.random.random() >= 0.1
        if not self.federates:
            content["m.federate"] = False
        create = self.build(creator, "m.room.create", "", content, [], [], 1)
        if self.v12:
            self.room_id = create.room_id
        self.add(create, [], {})
        self.create_id = create.event_id
        self.step("m.room.member", creator, creator, {"membership": "join"})
        self.step("m.room.power_levels", creator, "", self.levels())
        self.step("m.room.join_rules", creator, "", {"join_rule": self.join_rule()})

    def levels(self):
        r = self.random
        users = {u: self.level() for u in r.sample(USERS, r.randrange(4)) if not (self.v12 and u == USERS[0])}
        if not self.v12 and r.random() < 0.9:
            users[USERS[0]] = 100
        content = {"users": users}
        for name in ["users_default", "events_default", "state_default", "ban", "kick", "redact", "invite"]:
            if r.random() < 0.25:
                content[name] = self.level()
        if r.random() < 0.3:
            content["events"] = {r.choice(STATE_KINDS + ["m.room.power_levels", "m.room.message"]): self.level()}
        if r.random() < 0.2:
            content["notifications"] = {"room": self.level()}
        return content

    def level(self):
        r = self.random
        level = r.choice([0, 0, 10, 50, 50, 99, 100, 101, -1])
        if not self.version.enforce_int_power_levels and r.random() < 0.1:
            return r.choice([str(level), f" {level} ", f"+{abs(level)}"])
        # Before version 10 Synapse fails with an exception of Python's on these, so it has no verdict to compare.
        if self.version.enforce_int_power_levels and r.random() < 0.01:
            return r.choice(["50", None, [], {}])
        return level

    def join_rule(self):
        rules = ["public", "public", "invite", "private"]
        if self.version.knock_join_rule:
            rules.append("knock")
        if self.version.restricted_join_rule:
            rules.append("restricted")
        if self.version.knock_restricted_join_rule:
            rules.append("knock_restricted")
        if self.random.random() < 0.03:
            return self.random.choice(["odd", 7])
        return self.random.choice(rules)

    def auth_ids(self, kind, sender, state_key, content, state):
        shape = {"type": kind, "sender": sender, "content": content, "room_id": self.room_id}
        if state_key is not None:
            shape["state_key"] = state_key
        draft = make_event_from_dict(
            {**shape, "prev_events": [], "auth_events": [], "depth": 1, "origin_server_ts": 1, "event_id": "$x:one",
             "hashes": {}, "signatures": {}}
            if self.version.event_format == 1
            else {**shape, "prev_events": [], "auth_events": [], "depth": 1, "origin_server_ts": 1, "hashes": {},
                  "signatures": {}},
            self.version,
        )
        try:
            keys = event_auth.auth_types_for_event(self.version, draft)
        except KeyError:
            keys = {("m.room.create", "")}
        ids = [state[key] for key in sorted(keys) if key in state]
        return [i for i in ids if not (self.v12 and i == self.create_id)]

    def step(self, kind, sender, state_key, content, prev=None, redacts=None):
        """One more event, on @prev or the newest."""
        prev = prev or [self.order[-1]]
        states = [self.after[i] for i in prev]
        state = dict(self.resolve(states)) if len(states) > 1 else dict(states[0])
        auth = self.auth_ids(kind, sender, state_key, content, state)
        if self.random.random() < 0.04 and len(self.order) > 4:  # auth events of its own choosing
            choice = [i for i in self.random.sample(self.order, 3) if self.events[i].is_state()]
            if self.v12:
                choice = [i for i in choice if i != self.create_id]
            auth = choice if self.random.random() < 0.5 else auth + choice[:1]
        depth = 1 + max(self.events[i].depth for i in prev)
        event = self.build(sender, kind, state_key, content, prev, auth, depth, redacts)
        self.add(event, prev, state)

    def move(self):
        r = self.random
        newest = self.order[-6:]
        prev = r.sample(newest, 2) if r.random() < 0.25 and len(newest) > 1 else [r.choice(newest)]
        sender = r.choice(USERS)
        dice = r.random()
        if dice < 0.5:
            membership = r.choice(["join", "join", "join", "leave", "invite", "ban", "knock"])
            target = sender if membership in ("join", "knock") and r.random() < 0.9 else r.choice(USERS)
            # Explained difference: in a room with m.federate false Synapse refuses members of other servers by
            # whom the event is about; the specification by its sender alone ("If the content of the
            # m.room.create event in the room state has the property m.federate set to false, and the sender
            # domain of the event does not match the sender domain of the create event, reject").
            if not self.federates and sender.endswith(":one") and not target.endswith(":one"):
                target = sender
            content = {"membership": membership}
            if membership == "join" and self.version.restricted_join_rule and r.random() < 0.3:
                content["join_authorised_via_users_server"] = r.choice(USERS)
            if r.random() < 0.01:
                content = r.choice([{}, {"membership": 7}, {"membership": "odd"}])
            self.step("m.room.member", sender, target, content, prev)
        elif dice < 0.65:
            self.step("m.room.power_levels", sender, "", self.levels(), prev)
        elif dice < 0.75:
            self.step("m.room.join_rules", sender, "", {"join_rule": self.join_rule()}, prev)
        elif dice < 0.9:
            key = r.choice(["", "", sender, r.choice(USERS)])
            self.step(r.choice(STATE_KINDS), sender, key, {"n": r.randrange(10)}, prev)
        elif dice < 0.93:
            self.step("m.room.redaction", sender, None, {}, prev, redacts=r.choice(self.order))
        elif dice < 0.95:
            self.step("m.room.aliases", sender, r.choice(["one", "two", sender.split(":")[1]]), {"aliases": []}, prev)
        else:
            self.step("m.room.message", sender, None, {"body": "x"}, prev)


# ---- the comparison ----


def compare(room, ours, moves, report):
    for _ in range(moves):
        room.move()
    texts = [json.dumps(room.events[i].get_pdu_json(), ensure_ascii=False) for i in room.order]
    answers = ours.ask(op="room", version=room.version.identifier, events=texts)["events"]
    for event_id, answer in zip(room.order, answers):
        event = room.events[event_id]
        if "error" in answer:
            report("format", event_id, f"we refuse it: {answer['error']}", event)
            return
        if answer["id"] != event_id:
            report("event id", event_id, f"we say {answer['id']}", event)
            return
        redacted = json.loads(json.dumps(prune_event(event).get_pdu_json()))
        redacted.pop("unsigned", None)
        if json.loads(answer["redacted"]) != redacted:
            report("redaction", event_id, f"we keep {answer['redacted']}, they {json.dumps(redacted)}", event)
    rejected = [i for i in room.order if room.events[i].rejected_reason]
    for event_id in room.order[1:]:
        own, on_state = room.verdicts[event_id]
        event = room.events[event_id]
        before = [r for r in rejected if r != event_id]
        mine = ours.ask(op="auth_own", event=event_id, rejected=before)
        if mine["allow"] != own:
            report("own auth events", event_id, f"we {mine}, they {own} ({room.why.get(event_id)})", event)
        mine = ours.ask(op="auth", event=event_id, state=list(room.before[event_id].values()))
        if own and mine["allow"] != on_state:
            report("state before", event_id, f"we {mine}, they {on_state} ({room.why.get(event_id)})", event)
    for _ in range(3):
        picked = room.random.sample(room.order, min(len(room.order), room.random.choice([2, 2, 3])))
        states = [room.after[i] for i in picked]
        theirs = sorted(room.resolve([dict(s) for s in states]).values())
        mine = ours.ask(op="resolve", states=[list(s.values()) for s in states], rejected=rejected)
        if mine.get("state") != theirs:
            only_ours = set(mine.get("state", [])) - set(theirs)
            only_theirs = set(theirs) - set(mine.get("state", []))
            report("resolution", picked[0], f"only we {only_ours}, only they {only_theirs} {mine.get('error', '')}", None)


def play(job):
    """The graphs of one process: how many, and the differences as text."""
    program, versions, seeds, moves, wordy = job
    ours, lines = Ours(program), []
    for number, seed in enumerate(seeds, 1):
        version = versions[seed % len(versions)]

        def report(what, event_id, how, event, seed=seed, version=version):
            lines.append(f"difference: version {version} seed {seed}: {what} of {event_id}: {how}")
            if event is not None and wordy:
                lines.append(json.dumps(event.get_pdu_json(), indent=1))

        compare(Room(version, seed), ours, moves, report)
        if number % 500 == 0:
            print(f"  {number} graphs in this process, {len(lines)} differences", flush=True)
        if len(lines) > DIFFERENCES_MAX:
            break
    ours.close()
    return number, lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--graphs", type=int, default=2000, help="how many random rooms, all versions together")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None, help="play this one graph again")
    parser.add_argument("--version", default=None, help="this room version alone")
    parser.add_argument("--moves", type=int, default=30, help="events of a graph beside those that make the room")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    program = Path(os.environ.get("CHANCERY_ROOM_ANSWERS", "build/release/tests/check/room_answers"))
    versions = [options.version] if options.version else VERSIONS
    first, graphs = options.first_seed, options.graphs
    if options.seed is not None:
        first, graphs, options.jobs = options.seed, 1, 1
    print(f"versions {' '.join(versions)}, seeds {first} to {first + graphs - 1}", flush=True)
    jobs = [
        (program, versions, range(first + job, first + graphs, options.jobs), options.moves, options.seed is not None)
        for job in range(min(options.jobs, graphs))
    ]
    with multiprocessing.Pool(len(jobs)) as pool:
        played = pool.map(play, jobs)
    differences = [line for _, lines in played for line in lines]
    for line in differences:
        print(line)
    print(f"graphs {sum(number for number, _ in played)}, differences {len(differences)}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
