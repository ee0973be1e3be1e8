"""Two officials with matrix-nio, one at each agency: in, create, invite across, join, send both ways,
receive by sync, leave.  Prints TAP.  Standard input: as js_sdk.mjs; argument: the servers' CA file."""

import asyncio
import json
import logging
import ssl
import sys
import traceback
import uuid

from nio import (
    AsyncClient,
    AsyncClientConfig,
    ErrorResponse,
    MatrixInvitedRoom,
    RoomMessageText,
    RoomPreset,
)

LIMIT_S = 60


class Steps:
    def __init__(self):
        self.number = 0
        self.failed = 0

    async def __call__(self, name, work):
        self.number += 1
        try:
            result = await asyncio.wait_for(work, LIMIT_S)
            if isinstance(result, ErrorResponse):
                raise RuntimeError(str(result))
            print(f"ok {self.number} matrix-nio: {name}", flush=True)
            return result
        except Exception:
            self.failed += 1
            print(f"not ok {self.number} matrix-nio: {name}")
            print("# " + traceback.format_exc().rstrip().replace("\n", "\n# "), flush=True)
            raise


async def official(agency, context):
    config = AsyncClientConfig(encryption_enabled=False, max_limit_exceeded=5, max_timeouts=3)
    client = AsyncClient(agency["url"], agency["user_id"], config=config, ssl=context)
    client.restore_login(agency["user_id"], agency["device_id"], agency["access_token"])
    answer = await client.whoami()
    if getattr(answer, "user_id", None) != agency["user_id"]:
        raise RuntimeError(f"whoami says {answer}")
    return client


async def until(client, condition, heard):
    """Sync until @condition; texts that come go to @heard."""
    while not condition():
        answer = await client.sync(timeout=10_000)
        if isinstance(answer, ErrorResponse):
            raise RuntimeError(str(answer))
        for room_id, room in answer.rooms.join.items():
            for event in room.timeline.events:
                if isinstance(event, RoomMessageText):
                    heard.append((room_id, event.sender, event.body))


async def send(client, room_id, body):
    # The same transaction id twice is one event.
    transaction = str(uuid.uuid4())
    content = {"msgtype": "m.text", "body": body}
    first = await client.room_send(room_id, "m.room.message", content, tx_id=transaction)
    again = await client.room_send(room_id, "m.room.message", content, tx_id=transaction)
    if isinstance(first, ErrorResponse) or isinstance(again, ErrorResponse):
        raise RuntimeError(f"{first} {again}")
    if first.event_id != again.event_id:
        raise RuntimeError("one transaction id made two events")


async def main():
    agencies = json.load(sys.stdin)
    context = ssl.create_default_context(cafile=sys.argv[1])
    step = Steps()
    clients = []
    try:
        alpha = await step("alpha's official is in", official(agencies["alpha"], context))
        clients.append(alpha)
        beta = await step("beta's official is in", official(agencies["beta"], context))
        clients.append(beta)
        alpha_heard, beta_heard = [], []
        created = await step(
            "alpha creates a room", alpha.room_create(name="Matters of state", preset=RoomPreset.private_chat)
        )
        room_id = created.room_id
        await step("alpha invites across", alpha.room_invite(room_id, beta.user_id))
        await step(
            "beta sees the invitation", until(beta, lambda: room_id in beta.invited_rooms, beta_heard)
        )
        assert isinstance(beta.invited_rooms[room_id], MatrixInvitedRoom)
        await step("beta joins", beta.join(room_id))
        await step("beta sees the room", until(beta, lambda: room_id in beta.rooms, beta_heard))
        await step(
            "alpha sees the join",
            until(alpha, lambda: room_id in alpha.rooms and beta.user_id in alpha.rooms[room_id].users, alpha_heard),
        )
        await step("alpha sends, and repeats itself", send(alpha, room_id, "from alpha"))
        await step(
            "beta receives it",
            until(beta, lambda: (room_id, alpha.user_id, "from alpha") in beta_heard, beta_heard),
        )
        await step("beta sends, and repeats itself", send(beta, room_id, "from beta"))
        await step(
            "alpha receives it",
            until(alpha, lambda: (room_id, beta.user_id, "from beta") in alpha_heard, alpha_heard),
        )
        await step("beta leaves", beta.room_leave(room_id))
        await step(
            "alpha sees that", until(alpha, lambda: beta.user_id not in alpha.rooms[room_id].users, alpha_heard)
        )
        await step("alpha's official logs out", alpha.logout())
        await step("beta's official logs out", beta.logout())
    except Exception:
        pass  # told by the step
    for client in clients:
        await client.close()
    print(f"1..{step.number}")
    return 1 if step.failed else 0


logging.disable(logging.CRITICAL)
sys.exit(asyncio.run(main()))
