"""What Synapse's own Python functions say of a room that is held in memory.

`Room` holds events and asks Synapse: what is this event's id, does it stand on its auth events and on this state, what do
these states resolve to.  For tests/check/ and tests/bench/bench_room.py.

Where Synapse does otherwise than the specification says, the specification decides.  These are the kinds, each counted
where it made a difference (`Room.explained`), with the sentence that decides (rooms/v12.md, "Authorization rules"):

federate-by-target: "If the content of the m.room.create event in the room state has the property m.federate set to false,
    and the sender domain of the event does not match the sender domain of the create event, reject."  Synapse also asks
    the domain of the member that the event is about.
federate-not-a-boolean: the same sentence: "set to false".  Synapse takes everything but true for false.
authoriser-of-no-join: "If content has a join_authorised_via_users_server key: If the event is not validly signed by the
    homeserver of the user ID denoted by the key, reject."  Synapse asks this of joins alone.
"""

import hashlib
from collections import Counter

from signedjson.key import decode_signing_key_base64
from synapse import event_auth
from synapse.api.constants import EventTypes
from synapse.api.errors import SynapseError
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS, StateResolutionVersions
from synapse.crypto.event_signing import compute_content_hash, compute_event_signature
from synapse.events import make_event_from_dict
from synapse.events.utils import validate_canonicaljson
from synapse.state import v1, v2
from synapse.storage.databases.main.event_federation import StateDifference
from synapse.types import get_domain_from_id
from unpaddedbase64 import encode_base64

KEY = decode_signing_key_base64("ed25519", "1", "Y2hhbmNlcnkgdGVzdCBrZXksIG9mIG5vIHVzZSBhdCA")
VERSIONS = [str(number) for number in range(1, 13)]
AUTHORISER = "join_authorised_via_users_server"


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
        self.chains = {}

    async def get_events(self, event_ids, redact_behaviour=None, allow_rejected=False, **_):
        found = {i: self.room.events[i] for i in event_ids if i in self.room.events}
        return {i: e for i, e in found.items() if allow_rejected or not e.rejected_reason}

    async def get_event(self, event_id, **_):
        return self.room.events[event_id]

    def chain_of(self, event_id):
        if event_id not in self.chains:
            cited = (self.chain_of(i) for i in self.room.events[event_id].auth_event_ids())
            self.chains[event_id] = frozenset((event_id,)).union(*cited)
        return self.chains[event_id]

    def chain(self, event_ids):
        """These events and all that they stand on."""
        return set().union(*(self.chain_of(i) for i in event_ids))

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted_state, additional):
        chains = [self.chain(ids) for ids in state_sets]
        difference = set.union(*chains) - set.intersection(*chains)
        subgraph = None
        if conflicted_state is not None:
            starts = set(conflicted_state) | set(additional or ())
            below = self.chain(starts)
            subgraph = {i for i in below if self.chain_of(i) & starts}
        return StateDifference(auth_difference=difference, conflicted_subgraph=subgraph)


_synapse_can_federate = event_auth._can_federate


class Room:
    """Events of one room, and what Synapse says of them."""

    def __init__(self, version_id):
        self.version = KNOWN_ROOM_VERSIONS[version_id]
        self.v12 = self.version.msc4291_room_ids_as_hashes
        self.events, self.order, self.after, self.before = {}, [], {}, {}
        self.store = Store(self)
        self.room_id = None
        self.verdicts, self.why = {}, {}  # event id -> (own, state), and why not
        self.explained = Counter()

    def build(self, sender, kind, state_key, content, prev, auth, depth, at_ms, redacts=None, unsigned_by=(), room_id=None,
              chosen_id=None):
        """An event, hashed, and signed by all servers that must but those in @unsigned_by."""
        pairs = self.version.event_format == 1
        event = {
            "type": kind,
            "sender": sender,
            "content": content,
            "origin_server_ts": at_ms,
            "depth": depth,
            "prev_events": [[i, {"sha256": "x"}] for i in prev] if pairs else prev,
            "auth_events": [[i, {"sha256": "x"}] for i in auth] if pairs else auth,
        }
        if room_id is not None:
            event["room_id"] = room_id
        if state_key is not None:
            event["state_key"] = state_key
        if redacts is not None:
            if self.version.updated_redaction_rules:
                content["redacts"] = redacts
            else:
                event["redacts"] = redacts
        if pairs:
            event["event_id"] = chosen_id
        name, digest = compute_content_hash(event, hashlib.sha256)
        event["hashes"] = {name: encode_base64(digest)}
        event["signatures"] = {}
        servers = {get_domain_from_id(sender)}
        authoriser = content.get(AUTHORISER)
        if isinstance(authoriser, str) and ":" in authoriser:
            servers.add(get_domain_from_id(authoriser))
        for server in sorted(servers - set(unsigned_by)):
            event["signatures"].update(compute_event_signature(self.version, event, server, KEY))
        return make_event_from_dict(event, self.version)

    def has_format(self, event):
        """Would Synapse read it at all?  Its numbers, and how deep they lie."""
        try:
            if self.version.strict_canonicaljson:
                validate_canonicaljson(event.get_pdu_json())
            return True
        except SynapseError:
            return False

    # ---- does it stand? ----

    def can_federate(self, event, auth_events):
        """By the specification; see the head of this file."""
        create = auth_events[(EventTypes.Create, "")]
        same = get_domain_from_id(event.sender) == get_domain_from_id(create.sender)
        says = same or create.content.get("m.federate", True) is not False
        if says != _synapse_can_federate(event, auth_events):
            self.explained["federate-by-target" if same else "federate-not-a-boolean"] += 1
        return says

    def lacks_authoriser(self, event):
        """Rule 5.2 of restricted rooms, for what is no join."""
        if not self.version.restricted_join_rule or event.type != EventTypes.Member or AUTHORISER not in event.content:
            return False
        authoriser = event.content[AUTHORISER]
        signed = isinstance(authoriser, str) and ":" in authoriser and get_domain_from_id(authoriser) in event.signatures
        return not signed

    def judge(self, event, state):
        """Does it stand on its own auth events; on @state?"""

        def allowed(check):
            try:
                check()
                return True
            # What its types say cannot be is refused before its rules run, on a real server.
            except (SynapseError, KeyError, TypeError, AttributeError, ValueError) as error:
                self.why[event.event_id] = f"{type(error).__name__} {error}"
                return False

        event_auth._can_federate = self.can_federate
        own_events = [self.events[i] for i in event.auth_event_ids()]
        own = (
            allowed(lambda: event_auth.validate_event_for_room_version(event))
            and allowed(lambda: run(event_auth.check_state_independent_auth_rules(self.store, event)))
            and allowed(lambda: event_auth.check_state_dependent_auth_rules(event, own_events))
        )
        on_state = allowed(
            lambda: event_auth.check_state_dependent_auth_rules(event, [self.events[i] for i in state.values()])
        )
        if (own or on_state) and self.lacks_authoriser(event):
            self.explained["authoriser-of-no-join"] += own
            own = on_state = False
        return own, on_state

    def keep(self, event, state):
        """Judge it on @state, and make it part of the room, rejected or not."""
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

    # ---- states ----

    def resolve(self, states):
        event_auth._can_federate = self.can_federate
        if self.version.state_res == StateResolutionVersions.V1:
            own, factory = {i: self.events[i] for i in self.order}, self.store.get_events
            return run(v1.resolve_events_with_store(self.room_id, self.version, states, own, factory))
        return run(v2.resolve_events_with_store(Clock(), self.room_id, self.version, states, None, self.store))

    def auth_ids(self, kind, sender, state_key, content, state):
        """The auth events that an event should name."""
        shape = {
            "type": kind, "sender": sender, "content": content, "room_id": self.room_id, "prev_events": [], "auth_events": [],
            "depth": 1, "origin_server_ts": 1, "hashes": {}, "signatures": {},
        }
        if state_key is not None:
            shape["state_key"] = state_key
        if self.version.event_format == 1:
            shape["event_id"] = "$x:one"
        try:
            keys = event_auth.auth_types_for_event(self.version, make_event_from_dict(shape, self.version))
        except (KeyError, TypeError, AttributeError):
            keys = {("m.room.create", "")}
        ids = [state[key] for key in sorted(keys, key=str) if key in state]
        return [i for i in ids if not (self.v12 and i == state.get(("m.room.create", "")))]
