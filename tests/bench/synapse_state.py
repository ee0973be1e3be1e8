"""Synapse's half of the state measurement of `make bench-room`: its own store, schema and PostgreSQL driver.

usage: synapse_state.py SOCKET_FOLDER DATABASE.  One request a line on standard input, {"room_id", "changes": [[type,
state key, event id], …]}: each change becomes a state group on top of the room's last one, as it does when a state
event is stored.  {"room_id", "read": true} answers with the room's state as the database has it.
"""

import json
import sys

from synapse.app.homeserver import SynapseHomeServer
from synapse.config.homeserver import HomeServerConfig
from synapse.logging.context import LoggingContext
from synapse.types.state import StateFilter
from twisted.internet import defer, reactor, threads


def homeserver(host, database):
    config = HomeServerConfig()
    settings = {
        "server_name": "one.example",
        "report_stats": False,
        "macaroon_secret_key": "none",
        "form_secret": "none",
        "signing_key": "ed25519 1 Y2hhbmNlcnkgdGVzdCBrZXksIG9mIG5vIHVzZSBhdCA",
        "trusted_key_servers": [],
        "database": {
            "name": "psycopg2",
            "args": {"host": host, "user": "postgres", "dbname": database, "cp_min": 1, "cp_max": 2},
        },
    }
    config.parse_config_dict(settings, "", "")
    server = SynapseHomeServer("one.example", config, reactor=reactor)
    server.setup()
    return server


class Rooms:
    def __init__(self, store):
        self.store = store
        self.groups = {}

    async def answer(self, request):
        room_id = request["room_id"]
        if request.get("read"):
            group = self.groups[room_id]
            found = await self.store._get_state_groups_from_groups([group], StateFilter.all())
            return [[*key, event_id] for key, event_id in found[group].items()]
        for kind, state_key, event_id in request["changes"]:
            group = self.groups.get(room_id)
            delta = {(kind, state_key): event_id}
            self.groups[room_id] = await self.store.store_state_group(
                event_id, room_id, group, delta if group else None, None if group else delta
            )
        return True


async def serve(host, database):
    rooms = Rooms(homeserver(host, database).get_datastores().state)
    while line := await threads.deferToThread(sys.stdin.readline):
        with LoggingContext(name="state", server_name="one.example"):
            answer = await rooms.answer(json.loads(line))
        print(json.dumps(answer), flush=True)


def main():
    served = defer.ensureDeferred(serve(*sys.argv[1:3]))
    served.addErrback(lambda failure: print(failure.getTraceback(), file=sys.stderr))
    served.addBoth(lambda _: reactor.stop())
    reactor.run()


if __name__ == "__main__":
    main()
