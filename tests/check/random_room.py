"""A room's life made at random, forks, quarrels and hostile shapes included, as Synapse sees it.

Each kind of move is counted in `RandomRoom.moves`, so that `make check-room` can tell that it was there.
"""

import random
from collections import Counter

from signedjson.key import decode_signing_key_base64, get_verify_key
from signedjson.sign import sign_json
from synapse_rooms import AUTHORISER, Room
from unpaddedbase64 import encode_base64

USERS = ["@alice:one", "@bob:one", "@carol:two", "@dan:two", "@eve:three", "@mallory:three"]
CREATOR = USERS[0]
STATE_KINDS = ["m.room.name", "m.room.topic", "org.example.odd"]
HEADS_MAX = 4
THIRD_KEY = decode_signing_key_base64("ed25519", "0", "YW5vdGhlciBrZXksIG9mIGFuIGlkZW50aXR5IHNlcnY")
OTHER_KEY = decode_signing_key_base64("ed25519", "0", "YSBrZXkgdGhhdCBub2JvZHkga25vd3Mgb2YsIG5vdCE")
LEVEL_NAMES = ["users_default", "events_default", "state_default", "ban", "kick", "redact", "invite"]


class RandomRoom(Room):
    def __init__(self, version_id, seed):
        super().__init__(version_id)
        self.random = random.Random(f"{version_id}/{seed}")
        self.seed = seed
        self.clock_ms = 1_700_000_000_000
        self.moves = Counter()
        self.apart = []  # events that are judged beside the room and never part of it
        self.foreign = []  # ids of state events of another room
        self.resolutions = []  # (states, what they resolve to)
        self.made = 0
        self.make_room()

    # ---- events ----

    def chance(self, share):
        return self.random.random() < share

    def make(self, sender, kind, state_key, content, prev, auth, depth, redacts=None, unsigned_by=(), room_id=None):
        self.clock_ms += self.random.choice([-500, 0, 0, 0, 1, 1000])
        self.made += 1
        return self.build(
            sender, kind, state_key, content, prev, auth, depth, self.clock_ms, redacts, unsigned_by,
            room_id if room_id is not None else self.room_id, f"${self.made}x{self.random.randrange(10**6)}:{sender.split(':')[1]}",
        )

    def state_at(self, prev):
        states = [self.after[i] for i in prev]
        if len(states) == 1:
            return dict(states[0])
        resolved = dict(self.resolve([dict(state) for state in states]))
        self.resolutions.append((states, resolved))
        return resolved

    def step(self, kind, sender, state_key, content, prev=None, redacts=None, unsigned_by=(), hostile_auth=None):
        """One more event, on @prev or the newest, with the auth events that belong to it or those of a hostile mind."""
        prev = prev or [self.order[-1]]
        state = self.state_at(prev)
        auth = self.auth_ids(kind, sender, state_key, content, state)
        if hostile_auth is not None:
            auth = hostile_auth(auth, state)
        event = self.make(
            sender, kind, state_key, content, prev, auth, 1 + max(self.events[i].depth for i in prev), redacts, unsigned_by
        )
        if not self.has_format(event):
            self.apart.append(event)
            return None
        self.keep(event, state)
        return event.event_id

    # ---- how it begins ----

    def make_room(self):
        self.room_id = None if self.v12 else f"!room{self.seed}:one"
        content = {"room_version": self.version.identifier}
        if not self.version.implicit_room_creator:
            content["creator"] = CREATOR
        if self.version.msc4289_creator_power_enabled and self.chance(0.3):
            content["additional_creators"] = [USERS[2]]
        if self.chance(0.12):
            content["m.federate"] = self.random.choice([False, False, False, "no", 0])
            self.moves["a room that is not federated"] += 1
        self.creators = [CREATOR, *content.get("additional_creators", [])]
        create = self.make(CREATOR, "m.room.create", "", content, [], [], 1)
        if self.v12:
            self.room_id = create.room_id
        self.keep(create, {})
        self.create_id = create.event_id
        self.heads = [self.create_id]
        if self.chance(0.2):
            self.make_foreign_room()
        self.advance(self.step("m.room.member", CREATOR, CREATOR, {"membership": "join"}))
        if self.chance(0.95):
            self.advance(self.step("m.room.power_levels", CREATOR, "", self.levels()))
        if self.chance(0.95):
            rule = "public" if self.chance(0.7) else self.join_rule()
            self.advance(self.step("m.room.join_rules", CREATOR, "", {"join_rule": rule}))
        for user in self.random.sample(USERS[1:], self.random.randrange(5)):
            self.advance(self.step("m.room.member", user, user, {"membership": "join"}))

    def advance(self, event_id, head=0):
        if event_id is not None:
            self.heads[head] = event_id

    def make_foreign_room(self):
        """Another room of the same version, whose events are all good."""
        content = {"room_version": self.version.identifier, "org.example.other": 1}
        if not self.version.implicit_room_creator:
            content["creator"] = CREATOR
        room_id = None if self.v12 else f"!other{self.seed}:one"
        auth = []
        own_id, self.room_id = self.room_id, room_id
        for kind, key, body in [
            ("m.room.create", "", content),
            ("m.room.member", CREATOR, {"membership": "join"}),
            ("m.room.power_levels", "", {"users": {u: 100 for u in USERS if not (self.v12 and u == CREATOR)}}),
            ("m.room.member", USERS[5], {"membership": "join"}),
        ]:
            sender = USERS[5] if key == USERS[5] else CREATOR
            event = self.make(sender, kind, key, body, self.foreign[-1:], list(auth), len(self.foreign) + 1)
            if self.v12 and kind == "m.room.create":
                self.room_id = event.room_id
            elif kind != "m.room.member":
                auth.append(event.event_id)
            self.events[event.event_id] = event
            self.foreign.append(event.event_id)
            self.apart.append(event)
        self.room_id = own_id

    # ---- what events say ----

    def level(self):
        r = self.random
        level = r.choice([0, 0, 10, 49, 50, 50, 51, 99, 100, 101, -1])
        if not self.version.enforce_int_power_levels and self.chance(0.1):
            return r.choice([str(level), f" {level} ", f"+{abs(level)}"])
        return level

    def levels(self):
        r = self.random
        users = {u: self.level() for u in r.sample(USERS, r.randrange(5)) if not (self.v12 and u in self.creators)}
        if not self.v12 and self.chance(0.9):
            users[CREATOR] = 100
        content = {"users": users}
        for name in LEVEL_NAMES:
            if self.chance(0.25):
                content[name] = self.level()
        if self.chance(0.2):  # as rooms have it where not everybody may let people in
            content["invite"] = r.choice([50, 51, 100])
        if self.chance(0.3):
            content["events"] = {r.choice(STATE_KINDS + ["m.room.power_levels", "m.room.message"]): self.level()}
        if self.chance(0.3):
            content["notifications"] = {"room": self.level()}
        return content

    def changed_levels(self, prev):
        """The levels as they are, one of them changed: what people do, and what the rules of change are about."""
        r = self.random
        old = self.after[prev[0]].get(("m.room.power_levels", ""))
        if old is None:
            return self.levels()
        content = dict(self.events[old].get_dict()["content"])
        group = r.choice(["users", "users", "events", "notifications", None])
        if group is None:
            name, where = r.choice(LEVEL_NAMES), content
        else:
            where = content[group] = dict(content.get(group, {}))
            name = r.choice({"users": USERS, "events": STATE_KINDS, "notifications": ["room"]}[group])
        if self.v12 and name in self.creators:
            return content
        if name in where and self.chance(0.2):
            del where[name]
        else:
            where[name] = self.level()
        return content

    def hostile_levels(self):
        """Levels that are none, and users who are none."""
        r, content = self.random, self.levels()
        strict = self.version.enforce_int_power_levels
        shapes = ["a level of 2^53-1", "a level of -(2^53-1)", "users that are no map", "a user id that is none"]
        shapes += ["a level that is a float", "a level of 2^53"]
        if strict:
            shapes += ["a level that is a string", "a level that is null", "a level that is a list", "events that are no map"]
        if self.v12:
            shapes += ["a creator among the users"] * 2
        shape = r.choice(shapes)
        self.moves[f"hostile levels: {shape}"] += 1
        value = {
            "a level of 2^53-1": 2**53 - 1, "a level of -(2^53-1)": 1 - 2**53, "a level of 2^53": 2**53,
            "a level that is a float": r.choice([50.5, -0.5, 99.9, 50.0]), "a level that is a string": "50",
            "a level that is null": None, "a level that is a list": [50],
        }.get(shape)
        if shape == "users that are no map":
            content["users"] = r.choice([[], 7, "@alice:one"])
        elif shape == "a user id that is none":
            content["users"] = {r.choice(["alice", "@alice", "alice:one", ""]): 0}
        elif shape == "events that are no map":
            content[r.choice(["events", "notifications"])] = r.choice([[], 7, {"m.room.name": "50"}])
        elif shape == "a creator among the users":
            content["users"][r.choice(self.creators)] = 100
        elif self.chance(0.5):
            content["users"][USERS[1]] = value
        else:
            content[r.choice(LEVEL_NAMES)] = value
        return content

    def join_rule(self):
        rules = ["public", "public", "invite", "private"]
        if self.version.knock_join_rule:
            rules += ["knock"]
        if self.version.restricted_join_rule:
            rules += ["restricted"] * 2
        if self.version.knock_restricted_join_rule:
            rules += ["knock_restricted"]
        if self.chance(0.06):  # odd, or of a later version
            return self.random.choice(["odd", 7, "knock", "restricted", "knock_restricted"])
        return self.random.choice(rules)

    # ---- moves ----

    def move(self):
        """Somebody does something on one of the ends; now and then an end splits, or two meet."""
        r = self.random
        head = r.randrange(len(self.heads))
        prev = [self.heads[head]]
        if len(self.heads) > 1 and self.chance(0.2):
            other = r.choice([h for h in range(len(self.heads)) if h != head])
            if self.heads[other] != prev[0]:
                prev.append(self.heads[other])
                self.moves["two forks meet"] += 1
            del self.heads[other]
            head = self.heads.index(prev[0])
        elif len(self.heads) < HEADS_MAX and self.chance(0.2):
            self.heads.append(prev[0])
            self.moves["a fork"] += 1
        elif self.chance(0.04):
            prev = [r.choice(self.order)]
            self.moves["an event on old events"] += 1
        kinds = [
            (36, self.member), (14, self.change_levels), (4, self.new_levels), (4, self.some_hostile_levels), (8, self.rule),
            (10, self.state), (4, self.message), (4, self.redaction), (3, self.aliases), (3, self.third_party_invite),
            (4, self.third_party_member), (6, self.hostile_auth), (4, self.hostile_member), (3, self.beginning),
            (2, self.create_again),
        ]
        act = r.choices([act for _, act in kinds], [weight for weight, _ in kinds])[0]
        self.advance(act(prev, r.choice(USERS)), head)

    def present(self, prev):
        """Somebody who is in the room as that end has it: most of what strangers try is refused by rule 6 alone."""
        return self.one_who_is(["join"], prev, self.random.choice(USERS), 0.8)

    def one_who_is(self, memberships, prev, otherwise, share):
        found = [
            key for (kind, key), i in self.after[prev[0]].items()
            if kind == "m.room.member" and self.events[i].content.get("membership") in memberships
        ]
        return self.random.choice(found) if found and self.chance(share) else otherwise

    def member(self, prev, sender):
        r = self.random
        membership = r.choice(["join", "join", "join", "leave", "leave", "invite", "invite", "ban", "knock"])
        if membership in ("invite", "ban") or (membership == "leave" and self.chance(0.6)):
            sender, target = self.present(prev), r.choice(USERS)
            if membership == "leave":
                target = self.one_who_is(["ban"], prev, target, 0.5)
        else:
            if membership == "knock":
                sender = self.one_who_is(["ban", "invite", "join"], prev, sender, 0.3)
            target = sender if self.chance(0.93) else r.choice(USERS)
        content = {"membership": membership}
        unsigned_by = ()
        if membership == "join" and self.version.restricted_join_rule and self.chance(0.4):
            content[AUTHORISER] = authoriser = r.choice([self.present(prev), r.choice(USERS[1:])])
            if self.chance(0.1):
                unsigned_by = {authoriser.split(":")[1]} - {sender.split(":")[1]}
                self.moves["hostile member: the authoriser has not signed"] += bool(unsigned_by)
        self.moves[f"member: {membership}"] += 1
        return self.step("m.room.member", sender, target, content, prev, unsigned_by=unsigned_by)

    def hostile_member(self, prev, sender):
        r = self.random
        shape = r.choice(
            ["no membership", "a membership that is a number", "an unknown membership", "no state key", "a join for another"]
            + ["an authoriser of no join", "an authoriser that is none"] * self.version.restricted_join_rule
        )
        self.moves[f"hostile member: {shape}"] += 1
        key, content, unsigned_by = sender, {"membership": r.choice(["join", "leave"])}, ()
        if shape == "no membership":
            content = {}
        elif shape == "a membership that is a number":
            content = {"membership": 7}
        elif shape == "an unknown membership":
            content = {"membership": "odd"}
        elif shape == "no state key":
            key = None
        elif shape == "a join for another":
            key = r.choice(USERS)
            content = {"membership": "join"}
        elif shape == "an authoriser of no join":
            key = r.choice(USERS)
            content = {"membership": r.choice(["invite", "leave", "ban"]), AUTHORISER: r.choice(USERS)}
            unsigned_by = {content[AUTHORISER].split(":")[1]} - {sender.split(":")[1]} if self.chance(0.5) else ()
        elif shape == "an authoriser that is none":
            content = {"membership": "join", AUTHORISER: r.choice([7, "nobody", None])}
        return self.step("m.room.member", sender, key, content, prev, unsigned_by=unsigned_by)

    def change_levels(self, prev, sender):
        self.moves["levels: one changed"] += 1
        return self.step("m.room.power_levels", self.present(prev), "", self.changed_levels(prev), prev)

    def new_levels(self, prev, sender):
        self.moves["levels: all anew"] += 1
        return self.step("m.room.power_levels", self.present(prev), "", self.levels(), prev)

    def some_hostile_levels(self, prev, sender):
        return self.step("m.room.power_levels", self.present(prev), "", self.hostile_levels(), prev)

    def rule(self, prev, sender):
        self.moves["join rules"] += 1
        content = {"join_rule": self.join_rule()}
        if self.chance(0.2):
            content["allow"] = [{"type": "m.room_membership", "room_id": "!x:one"}]
        if self.chance(0.03):
            content = {}
        return self.step("m.room.join_rules", self.present(prev), "", content, prev)

    def state(self, prev, sender):
        r = self.random
        self.moves["state"] += 1
        sender = self.present(prev)
        content = {"n": r.randrange(10)}
        kind = r.choice(STATE_KINDS + ["m.room.history_visibility", "m.room.server_acl"])
        if kind == "m.room.history_visibility":
            content["history_visibility"] = "shared"
        return self.step(kind, sender, r.choice(["", "", sender, r.choice(USERS), "@odd"]), content, prev)

    def message(self, prev, sender):
        self.moves["message"] += 1
        return self.step("m.room.message", self.present(prev), None, {"body": "x"}, prev)

    def redaction(self, prev, sender):
        self.moves["redaction"] += 1
        return self.step("m.room.redaction", self.present(prev), None, {}, prev, redacts=self.random.choice(self.order))

    def aliases(self, prev, sender):
        self.moves["aliases"] += 1
        key = self.random.choice(["one", "two", sender.split(":")[1], sender.split(":")[1], "", None])
        return self.step("m.room.aliases", sender, key, {"aliases": []}, prev)

    # ---- third parties ----

    def third_party_invite(self, prev, sender):
        self.moves["third party invite"] += 1
        key = encode_base64(get_verify_key(THIRD_KEY).encode())
        other = encode_base64(get_verify_key(OTHER_KEY).encode())
        content = self.random.choice(
            [{"public_key": key}, {"public_key": other, "public_keys": [{"public_key": key}]}, {"public_key": other}]
        )
        return self.step("m.room.third_party_invite", self.present(prev), self.random.choice("tu"), content, prev)

    def third_party_member(self, prev, sender):
        """An invite by a third party's word, good or with one thing wrong."""
        r = self.random
        state, target = self.after[prev[0]], r.choice(USERS)
        tokens = [key for kind, key in state if kind == "m.room.third_party_invite"]
        token = r.choice(tokens) if tokens and self.chance(0.9) else "t"
        if ("m.room.third_party_invite", token) in state and self.chance(0.9):
            sender = self.events[state[("m.room.third_party_invite", token)]].sender
        proof = {"mxid": target, "token": token}
        shape = r.choice(["good"] * 6 + ["for another", "changed", "no mxid", "no token", "no proof", "no signatures", "not a map"])
        if shape == "for another":
            proof["mxid"] = "@nobody:two"
        signed = sign_json(dict(proof), "id.example", THIRD_KEY)
        if shape == "changed":
            signed["mxid"] = target
            signed["more"] = 1
        for name in ("mxid", "token", "signatures"):
            if shape == f"no {name}":
                del signed[name]
        third = {"display_name": "x", "signed": signed}
        if shape == "no proof":
            del third["signed"]
        if shape == "not a map":
            third = 7
        self.moves[f"invite by a third party: {shape}"] += 1
        content = {"membership": "invite", "third_party_invite": third}
        return self.step("m.room.member", sender, target, content, prev)

    # ---- auth events of one's own choosing ----

    def hostile_auth(self, prev, sender):
        r = self.random
        rejected = [i for i in self.order if self.events[i].rejected_reason and self.events[i].is_state()]
        messages = [i for i in self.order if not self.events[i].is_state()]
        by_key = {}
        for i in self.order:
            if self.events[i].is_state():
                by_key.setdefault((self.events[i].type, self.events[i].state_key), []).append(i)

        def twice(auth, state):
            more = [i for a in auth for i in by_key.get((self.events[a].type, self.events[a].state_key), []) if i != a]
            return auth + [r.choice(more)] if more else auth

        def older(auth, state):
            """Those of the right keys, but not those that stand there."""
            return [r.choice(by_key[(self.events[a].type, self.events[a].state_key)]) for a in auth]

        def swapped_for_rejected(auth, state):
            keys = [(self.events[a].type, self.events[a].state_key) for a in auth]
            worse = [i for i in rejected if (self.events[i].type, self.events[i].state_key) in keys]
            if not worse:
                return auth + rejected[-1:]
            bad = r.choice(worse)
            key = (self.events[bad].type, self.events[bad].state_key)
            return [i for i in auth if (self.events[i].type, self.events[i].state_key) != key] + [bad]

        shapes = {
            "of one key, two": twice,
            "that do not bear on it": lambda auth, state: auth + ([r.choice(sorted(state.values()))] if state else []),
            "that stood before": older,
            "rejected": swapped_for_rejected,
            "a message": lambda auth, state: auth + messages[-1:],
            "of another room": lambda auth, state: [i for i in auth if self.chance(0.5)] + [r.choice(self.foreign)],
            "of another room alone": lambda auth, state: self.foreign[1:3] if self.v12 else self.foreign[:3],
            "none": lambda auth, state: [],
            "one less": lambda auth, state: [i for i in auth if i != r.choice(auth)] if auth else auth,
            "without the create event": lambda auth, state: [i for i in auth if i != self.create_id],
            "with the create event": lambda auth, state: [*auth, self.create_id],
            "itself twice": lambda auth, state: auth + auth[-1:],
            "any": lambda auth, state: r.sample(self.order, min(3, len(self.order))),
        }
        if not self.foreign:
            shapes = {name: shape for name, shape in shapes.items() if "another room" not in name}
        if self.v12:  # make_event_from_dict() adds the create event
            del shapes["without the create event"], shapes["with the create event"]
        name = r.choice(sorted(shapes))
        self.moves[f"hostile auth events: {name}"] += 1
        shape = shapes[name]

        def choose(auth, state):
            chosen = shape(auth, state)
            return [i for i in chosen if i != self.create_id] if self.v12 else chosen

        what = r.randrange(4)
        sender = self.present(prev)
        if what == 0:
            return self.step("m.room.member", sender, sender, {"membership": "join"}, prev, hostile_auth=choose)
        if what == 1:
            return self.step("m.room.power_levels", sender, "", self.changed_levels(prev), prev, hostile_auth=choose)
        if what == 2:
            return self.step("m.room.topic", sender, "", {"n": r.randrange(10)}, prev, hostile_auth=choose)
        return self.step(
            "m.room.member", sender, r.choice(USERS), {"membership": r.choice(["ban", "leave"])}, prev, hostile_auth=choose
        )

    # ---- the beginning again ----

    def beginning(self, prev, sender):
        """On the create event alone, where the creator's join stands by a rule of its own."""
        r = self.random
        self.moves["an event on the create event alone"] += 1
        sender = CREATOR if self.chance(0.6) else sender
        target = sender if self.chance(0.7) else r.choice(USERS)
        auth = None
        if self.chance(0.5):  # banned or not
            auth = lambda auth, state: [  # noqa: E731
                i for i in auth if self.events[i].type != "m.room.member"
            ] + [i for i in [self.after[prev[0]].get(("m.room.member", target))] if i]
        return self.step("m.room.member", sender, target, {"membership": "join"}, [self.create_id], hostile_auth=auth)

    def create_again(self, prev, sender):
        """A second create event, or a crooked one.  In version 12 it makes a room of its own."""
        r = self.random
        content = {"room_version": self.version.identifier, "org.example.again": r.randrange(10**6)}
        if not self.version.implicit_room_creator:
            content["creator"] = sender
        shapes = ["good", "on events", "of another server", "of an unknown version", "of a version that is a number"]
        shapes += ["without a creator"] if not self.version.implicit_room_creator else []
        shapes += ["with odd creators"] * 2 if self.version.msc4289_creator_power_enabled else []
        shape = r.choice(shapes)
        self.moves[f"create event again: {shape}"] += 1
        before = []
        if shape == "on events":
            before = prev
        elif shape == "of another server":
            sender = USERS[5]
        elif shape == "of an unknown version":
            content["room_version"] = "org.example.13"
        elif shape == "of a version that is a number":
            content["room_version"] = 7
        elif shape == "without a creator":
            del content["creator"]
        elif shape == "with odd creators":
            content["additional_creators"] = r.choice(["@bob:one", ["bob"], [7], ["@bob:one", "@" + "b" * 300 + ":one"], [], [USERS[1]]])
        if shape != "of another server":
            sender = r.choice(USERS[:2])
        room_id = self.room_id
        if self.v12:
            self.room_id = None
        event = self.make(sender, "m.room.create", "", content, before, [], 1)
        self.room_id = room_id
        if event.event_id in self.events:
            return
        if self.v12 or before:
            self.verdicts[event.event_id] = self.judge(event, {})
            self.apart.append(event)
            return
        self.keep(event, {})  # one more beginning of the graph, from which a fork may grow
        if not self.events[event.event_id].rejected_reason and len(self.heads) < HEADS_MAX:
            self.heads.append(event.event_id)
