"""Every way to another tenant's response, or to one that is not there, ends in the same words."""

from __future__ import annotations

import json
import random
from pathlib import Path

from support.asgi import BASE, Door, Reply
from support.engine import Engine
from support.responses import response

from core.settings import Settings
from deploy.kinds import KINDS
from server.runtime import Runtime

SECRET = "the vault's number is 4711"
TRIES = 150


def bent(name: str, other: str, chance: random.Random) -> str:
    """An id near `name`: digits changed, halves of two ids, other cases, prefixes, ends."""
    token, theirs = name.removeprefix("resp_"), other.removeprefix("resp_")
    at = chance.randrange(len(token))
    digit = chance.choice("0123456789abcdef")
    return chance.choice(
        [
            "resp_" + token[:at] + digit + token[at + 1 :],
            "resp_" + token[:24] + theirs[24:],
            "resp_" + theirs[:24] + token[24:],
            "resp_" + token[:at],
            name + digit,
            name.upper(),
            "chatcmpl-" + token,
            "cmpl-" + token,
            token,
            "resp_resp_" + token,
            name.replace("a", "\u0430"),
            f"{name}'--",
            f"{name}%",
            "resp_" + "_" * 40,
        ]
    )


async def test_no_id_leads_a_tenant_to_what_is_not_its_own(tmp_path: Path) -> None:
    engine = Engine()
    runtime = Runtime(
        Settings(home=tmp_path, sync_interval_s=3600.0),
        engine,
        base=BASE,
        served_name="base",
        max_model_len=512,
        kinds=KINDS,
    )
    await runtime.start()
    door = Door(runtime, engine)
    door.vllm.document = response
    stranger = door.new_key("inference", tenant="stranger")
    try:
        theirs = await create(door, door.key, input=SECRET)
        mine = await create(door, stranger, input="Hi")
        assert (await fetch(door, door.key, theirs)).status == 200  # it would have been seen
        assert (await fetch(door, stranger, mine)).status == 200
        chance, asked_before = random.Random(7), len(door.vllm.asked)
        for _ in range(TRIES):
            name = chance.choice([theirs, bent(theirs, mine, chance), bent(mine, theirs, chance)])
            if name == mine:
                continue
            body = {"model": "base", "input": "Hi", "previous_response_id": name}
            for reply in (
                await fetch(door, stranger, name),
                await door.call(f"/v1/responses/{name}/input_items", method="GET", key=stranger),
                await door.call(f"/v1/responses/{name}", method="DELETE", key=stranger),
                await door.call(f"/v1/responses/{name}/cancel", key=stranger),
                await door.call("/v1/responses", body, key=stranger),
            ):
                assert reply.status == 404, name
                assert SECRET.encode() not in reply.body
        assert len(door.vllm.asked) == asked_before
        assert (await fetch(door, door.key, theirs)).status == 200  # nobody else deleted it
    finally:
        await runtime.stop()


async def create(door: Door, key: str, **body: str) -> str:
    reply = await door.call("/v1/responses", {"model": "base", **body}, key=key)
    return str(json.loads(reply.body)["id"])


async def fetch(door: Door, key: str, name: str) -> Reply:
    return await door.call(f"/v1/responses/{name}", method="GET", key=key)
