"""Stages: no parameter outside its bound, and no grammar the engine cannot compile in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from starlette.types import Message

from core.errors import Invalid
from server.door.call import COUNTING, Call, Onward
from server.door.parameters.bounds import Limits
from server.door.parameters.check import check, told
from server.door.parameters.grammars import Wanted, wanted
from server.door.parameters.tools import Tool, offered
from server.engine.grammars import ANY, UNCONSTRAINED, Grammar, Verdict

T = TypeVar("T")

_SHOWN = 4_000  # bytes of the header that names tools
_SMALLER = "Make it smaller: fewer or shorter alternatives, less repetition, less nesting."


async def within_bounds(call: Call, onward: Onward) -> None:
    """Raises Invalid for a parameter the engine would work on for too long, or not survive."""
    runtime = call.runtime
    check(
        call.scope["path"],
        call.asked.body,
        Limits(runtime.max_model_len, runtime.traits.fetches_media),
    )
    await onward(call)


async def compilable(call: Call, onward: Onward) -> None:
    """What answers shall fit is compiled before, out of the engine's way.

    Raises Invalid for what cannot be. A tool whose schema cannot is offered all the same, unless it
    is strict: its calls are held to nothing, and a header of the answer names it.
    """
    if call.endpoint == COUNTING or not call.runtime.grammars.judges:
        await onward(call)
        return
    body = told(call.scope["path"], call.asked.body)
    for asked in wanted(body):
        await _require(call, asked)
    tools = offered(body)
    loose = await _while_here(call, _loose(call, tools)) if tools else []
    if not loose:
        await onward(call)
        return
    call.send = _Naming(call, loose).send
    token = UNCONSTRAINED.set(tuple(tool.schema for tool in loose))
    try:
        await onward(call)
    finally:
        UNCONSTRAINED.reset(token)


async def _require(call: Call, asked: Wanted) -> None:
    verdict = await _while_here(call, _verdict(call, asked.grammar))
    if verdict.fault is not None:
        raise _refused(asked.param, verdict, "Mend it, or leave it out.")


def _refused(param: str, verdict: Verdict, otherwise: str) -> Invalid:
    todo = _SMALLER if verdict.too_complex else otherwise
    return Invalid(
        f"{param} cannot be used: {verdict.fault}. {todo}",
        param=param,
        code="grammar_too_complex" if verdict.too_complex else "invalid_grammar",
    )


def _verdict(call: Call, grammar: Grammar) -> Awaitable[Verdict]:
    return call.runtime.grammars.verdict(call.key.tenant_id, grammar)


async def _loose(call: Call, tools: Sequence[Tool]) -> list[Tool]:
    """The tools that are not held to their schemas. Mostly none."""
    held = [tool for tool in tools if isinstance(tool.schema, dict)]
    verdict = await _verdict(call, _together(tools, held))
    if verdict.fault is not None:  # they are too much together
        held = [tool for tool in held if tool.strict]
        verdict = await _verdict(call, _together(tools, held)) if held else Verdict()
    for at, tool in enumerate(tools):
        if tool.strict and tool in held and (why := verdict.fault or verdict.faults.get(at)):
            fault = Verdict(why, verdict.too_complex)
            raise _refused(tool.param, fault, "Mend the schema, or leave `strict` out.")
    return [
        tool
        for at, tool in enumerate(tools)
        if isinstance(tool.schema, dict) and (tool not in held or at in verdict.faults)
    ]


def _together(tools: Sequence[Tool], held: Sequence[Tool]) -> Grammar:
    named = [[tool.name, tool.schema if tool in held else ANY] for tool in tools]
    return Grammar("tools", msgspec.json.encode(named).decode())


async def _while_here(call: Call, work: Awaitable[T]) -> T:
    """What comes of it; cancelled when the client goes."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(call))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Invalid("The client went away before its schemas were compiled.")
        return task.result()
    finally:
        for each in (task, leaving):
            each.cancel()


async def _gone(call: Call) -> None:
    # The body has been read: all that can still come is that the client leaves.
    while (await call.receive())["type"] != "http.disconnect":
        pass


class _Naming:
    """Names, in the answer's head, the tools whose calls are held to nothing."""

    def __init__(self, call: Call, loose: Sequence[Tool]) -> None:
        self._send = call.send
        names = ", ".join(quote(tool.name, safe=" !#$&'()*+./:;=?@[]^`{|}~") for tool in loose)
        self._header = (b"x-attune-unconstrained-tools", names[:_SHOWN].encode())

    async def send(self, message: Message) -> Any:
        if message["type"] == "http.response.start" and message["status"] < 400:
            message = {**message, "headers": [*message["headers"], self._header]}
        await self._send(message)
