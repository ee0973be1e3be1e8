"""`make check-room`: the room protocol against Synapse's own Python functions.

Random rooms of every version that we support, with forks, bans, power changes, join-rule changes, rejected events and
hostile shapes (random_room.py).  Synapse decides what each event's id and redacted form are, whether the event stands on its
auth events and on the state before it, and what several states resolve to (synapse_rooms.py, where the explained kinds of
difference are); we are asked the same (room_answers.c), and the answers are compared.  A graph is named by its seed and can
be played again.

A comparison proves only what was there, so all that happened is counted: moves and hostile shapes, every rule that refused,
every way of being allowed, and conflicts.  With enough graphs of all versions, a rule of event_auth.c that refused nothing
is a failure too.
"""

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from random_room import RandomRoom
from synapse.events.utils import prune_event
from synapse_rooms import AUTHORISER, VERSIONS

DIFFERENCES_MAX = 20
GRAPHS_FOR_ALL_RULES = 2000
AUTH_RULES = Path(__file__).resolve().parent.parent.parent / "federation/room/event_auth.c"
# Synapse has no such rule: its rooms have the version that their create event says, and no event is judged by another room's.
RULES_OF_OURS = ("rule 1.3: the create event is of another room version", "rule 2: the room_id is not that of")


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


# ---- what was there ----


class Coverage:
    """How often each thing happened, by room version."""

    def __init__(self):
        self.counts = defaultdict(Counter)  # (section, thing) -> version -> times

    def add(self, section, thing, version, times=1):
        if times:
            self.counts[(section, thing)][version] += times

    def take(self, other):
        for key, versions in other.counts.items():
            self.counts[key].update(versions)

    def names(self, section):
        return {thing for found, thing in self.counts if found == section}

    def print(self):
        last = None
        for (section, thing), versions in sorted(self.counts.items()):
            if section != last:
                print(f"\n{section}")
                last = section
            known = sorted(versions, key=int)
            print(f"  {sum(versions.values()):9}  in {len(known):2} versions, {known[0]} to {known[-1]}: {thing}")


def membership_in(room, state, user):
    event = state.get(("m.room.member", user))
    return room.events[event].content.get("membership", "none") if event else "none"


def way_in(room, event, state):
    """By which path of the rules an allowed event came through."""
    if event.type == "m.room.member":
        content, target = event.content, event.state_key
        membership = content["membership"]
        if event.prev_event_ids() == [room.create_id] and membership == "join":
            return "member: join on the create event alone"
        rules = state.get(("m.room.join_rules", ""))
        rule = room.events[rules].content.get("join_rule", "none") if rules else "no join rules"
        was = membership_in(room, state, target)
        if membership == "join":
            by = " by an authoriser" if AUTHORISER in content and was not in ("join", "invite") else ""
            return f"member: join, {rule}, was {was}{by}"
        if membership == "invite" and "third_party_invite" in content:
            return "member: invite by a third party's word"
        whose = "own" if target == event.sender else "another's"
        return f"member: {membership} ({whose}), was {was}"
    if event.type == "m.room.power_levels":
        return "power levels: " + ("the first" if ("m.room.power_levels", "") not in state else "changed")
    return event.type + (" with a state key" if event.is_state() else "")


def count_room(room, coverage):
    version = room.version.identifier
    coverage.add("rooms", "rooms", version)
    coverage.add("rooms", "events", version, len(room.order))
    rejected = sum(1 for i in room.order if room.events[i].rejected_reason)
    coverage.add("rooms", "rejected events", version, rejected)
    for move, times in room.moves.items():
        coverage.add("moves", move, version, times)
    for kind, times in room.explained.items():
        coverage.add("explained kinds of difference (tests/check/synapse_rooms.py)", kind, version, times)


def count_resolution(room, states, resolved, coverage):
    version = room.version.identifier
    keys = {key for state in states for key in state}
    conflicts = [key for key in keys if len({state.get(key) for state in states}) > 1]
    coverage.add("resolutions", "without a conflict", version, not conflicts)
    if not conflicts:
        return
    coverage.add("resolutions", f"of {len(states)} states in conflict", version)
    for kind in ("m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.member"):
        coverage.add("resolutions", f"in conflict over {kind}", version, any(k == kind for k, _ in conflicts))
    chains = [room.store.chain(state.values()) for state in states]
    more = set.union(*chains) - set.intersection(*chains) - {s.get(key) for s in states for key in conflicts}
    coverage.add("resolutions", "with an auth difference beyond what is in conflict", version, bool(more))
    winners = [state for state in states if all(resolved.get(key) == state.get(key) for key in conflicts)]
    coverage.add("resolutions", "that are none of the states", version, not winners)
    lost = any(resolved.get(key) is None for key in conflicts)
    coverage.add("resolutions", "that lose a key", version, lost)


# ---- the comparison ----


def compare_forms(room, texts, answers, report):
    """Ids and redacted forms; FALSE where there is nothing to go on with."""
    for event, text, answer in zip(room.all, texts, answers):
        if ("error" in answer) == room.has_format(event):
            report("format", event.event_id, f"we {answer}", event)
            return False
        if "error" in answer:
            continue
        if answer["id"] != event.event_id:
            report("event id", event.event_id, f"we say {answer['id']}", event)
            return False
        redacted = json.loads(json.dumps(prune_event(event).get_pdu_json()))
        redacted.pop("unsigned", None)
        if json.loads(answer["redacted"]) != redacted:
            report("redaction", event.event_id, f"we keep {answer['redacted']}, they {json.dumps(redacted)}", event)
        if not answer["hash"]:
            report("content hash", event.event_id, "we find another", event)
    return True


def compare_verdicts(room, ours, rejected, coverage, report):
    version, events = room.version.identifier, {event.event_id: event for event in room.all}
    judged = [event_id for event_id in room.verdicts if event_id != room.create_id]
    states = [room.before.get(event_id, {}) for event_id in judged]
    questions = [{"event": i, "state": list(state.values())} for i, state in zip(judged, states)]
    answers = ours.ask(op="judge", questions=questions, rejected=rejected)["answers"]
    for event_id, state, mine in zip(judged, states, answers):
        own, on_state = room.verdicts[event_id]
        why = room.why.get(event_id)
        if mine["own"]["allow"] != own:
            report("own auth events", event_id, f"we {mine['own']}, they {own} ({why})", events[event_id])
        if own and mine["state"]["allow"] != on_state:
            report("state before", event_id, f"we {mine['state']}, they {on_state} ({why})", events[event_id])
        for answer in mine.values():
            if not answer["allow"]:
                coverage.add("refused", answer["reason"], version)
        if own and on_state:
            coverage.add("allowed", way_in(room, events[event_id], state), version)


def compare_resolutions(room, ours, rejected, coverage, report):
    questions = [[list(state.values()) for state in states] for states, _ in room.resolutions]
    answers = ours.ask(op="resolve", questions=questions, rejected=rejected)["answers"]
    for (states, resolved), mine in zip(room.resolutions, answers):
        theirs = sorted(resolved.values())
        count_resolution(room, states, resolved, coverage)
        if mine.get("state") != theirs:
            only_ours = set(mine.get("state", [])) - set(theirs)
            only_theirs = set(theirs) - set(mine.get("state", []))
            how = f"only we {only_ours}, only they {only_theirs} {mine.get('error', '')}"
            report("resolution", min(only_ours | only_theirs, default="none"), how, None)


def compare(room, ours, moves, coverage, report):
    for _ in range(moves):
        room.move()
    for _ in range(3):
        ends = room.heads + room.random.sample(room.order, 2)
        picked = sorted(set(room.random.sample(ends, min(len(ends), room.random.choice([2, 2, 3])))))
        if len(picked) > 1:
            room.state_at(picked)
    room.all = [room.events[room.create_id], *(room.events[i] for i in room.order[1:]), *room.apart]
    texts = [json.dumps(event.get_pdu_json(), ensure_ascii=False) for event in room.all]
    answers = ours.ask(op="room", version=room.version.identifier, events=texts)["events"]
    if not compare_forms(room, texts, answers, report):
        return
    rejected = [i for i in room.order if room.events[i].rejected_reason]
    compare_verdicts(room, ours, rejected, coverage, report)
    compare_resolutions(room, ours, rejected, coverage, report)
    count_room(room, coverage)


def play(job):
    """The graphs of one process: how many, the differences as text, and what was there."""
    program, versions, seeds, moves, wordy = job
    ours, lines, coverage = Ours(program), [], Coverage()
    for number, seed in enumerate(seeds, 1):
        version = versions[seed % len(versions)]

        def report(what, event_id, how, event, seed=seed, version=version):
            lines.append(f"difference: version {version} seed {seed}: {what} of {event_id}: {how}")
            if event is not None and wordy:
                lines.append(json.dumps(event.get_pdu_json(), indent=1))

        compare(RandomRoom(version, seed), ours, moves, coverage, report)
        if number % 500 == 0:
            print(f"  {number} graphs in this process, {len(lines)} differences", flush=True)
        if len(lines) > DIFFERENCES_MAX:
            break
    ours.close()
    return number, lines, coverage


def rules_never_met(coverage):
    """Reasons of event_auth.c that refused nothing here."""
    source = re.sub(r'"\s*\n\s*"', "", AUTH_RULES.read_text(encoding="utf-8"))
    reasons = set(re.findall(r'"(rule [^"]+)"', source))
    return sorted(r for r in reasons - coverage.names("refused") if not r.startswith(RULES_OF_OURS))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--graphs", type=int, default=2000, help="how many random rooms, all versions together")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None, help="play this one graph again")
    parser.add_argument("--version", default=None, help="this room version alone")
    parser.add_argument("--moves", type=int, default=24, help="events of a graph beside those that make the room")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--coverage", action="store_true", help="print what was there")
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
    coverage = Coverage()
    for _, _, part in played:
        coverage.take(part)
    if options.coverage:
        coverage.print()
        print()
    differences = [line for _, lines, _ in played for line in lines]
    for line in differences:
        print(line)
    missed = rules_never_met(coverage) if graphs >= GRAPHS_FOR_ALL_RULES and options.version is None else []
    for reason in missed:
        print(f"never met: {reason}")
    refused, allowed = len(coverage.names("refused")), len(coverage.names("allowed"))
    print(f"rules that refused {refused}, ways of being allowed {allowed}, moves {len(coverage.names('moves'))}")
    print(f"graphs {sum(number for number, _, _ in played)}, differences {len(differences)}")
    return 1 if differences or missed else 0


if __name__ == "__main__":
    sys.exit(main())
