"""Grammars at the door: what cannot be compiled is refused before the engine gets it, a tool that
cannot is offered without its schema."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.asgi import BASE, Door, until
from support.compiler import Compiler
from support.engine import Engine

from core.settings import Settings
from server.engine.grammars import UNCONSTRAINED, Grammar, Grammars, Verdict
from server.engine.port import EngineTraits
from server.runtime import Runtime

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
ODD: dict[str, Any] = {"type": "any"}
HI = [{"role": "user", "content": "Hi"}]
HEADER = b"x-attune-unconstrained-tools"
COMPLEX = Verdict("it takes too long to compile", too_complex=True)


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


@pytest_asyncio.fixture
async def door(tmp_path: Path, compiler: Compiler) -> AsyncIterator[Door]:
    engine = Engine()
    runtime = Runtime(
        Settings(home=tmp_path, sync_interval_s=3600.0),
        engine,
        base=BASE,
        served_name="town",
        max_model_len=512,
        traits=EngineTraits(compiler=compiler),
    )
    runtime.grammars = Grammars(compiler, kept=0)
    await runtime.start()
    yield Door(runtime, engine)
    await runtime.stop()


def plain(schema: Any) -> str:
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)


def tools(*named: tuple[str, Any]) -> Grammar:
    return Grammar("tools", plain([list(tool) for tool in named]))


def function(name: str, schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


@pytest.mark.parametrize(
    ("path", "body", "grammar", "param"),
    [
        ("chat/completions",
         {"messages": HI, "response_format": {"type": "json_schema",
                                              "json_schema": {"name": "x", "schema": SCHEMA}}},
         Grammar("json", plain(SCHEMA)), "response_format.json_schema.schema"),
        ("chat/completions",
         {"messages": HI, "response_format": {"type": "structural_tag", "format": {}}},
         Grammar("structural_tag", plain({"type": "structural_tag", "format": {}})),
         "response_format"),
        ("completions", {"prompt": "a", "structured_outputs": {"json": SCHEMA}},
         Grammar("json", plain(SCHEMA)), "structured_outputs.json"),
        ("completions", {"prompt": "a", "structured_outputs": {"json": "{}"}},
         Grammar("json", "{}"), "structured_outputs.json"),
        ("chat/completions", {"messages": HI, "structured_outputs": {"regex": "a+"}},
         Grammar("regex", "a+"), "structured_outputs.regex"),
        ("chat/completions", {"messages": HI, "structured_outputs": {"choice": ["a", "b"]}},
         Grammar("choice", '["a","b"]'), "structured_outputs.choice"),
        ("responses", {"input": "a", "structured_outputs": {"grammar": "root ::= root"}},
         Grammar("grammar", "root ::= root"), "structured_outputs.grammar"),
        ("responses", {"input": "a", "text": {"format": {"type": "json_schema", "name": "x",
                                                         "schema": SCHEMA}}},
         Grammar("json", plain(SCHEMA)), "text.format.schema"),
        ("messages", {"messages": HI, "max_tokens": 5, "output_config": {"format": {
            "type": "json_schema", "schema": SCHEMA}}},
         Grammar("json", plain(SCHEMA)), "output_config.format.schema"),
    ],
)  # fmt: skip
async def test_what_an_answer_shall_fit_is_compiled_before_and_refused_by_its_field(
    door: Door, compiler: Compiler, path: str, body: dict[str, Any], grammar: Grammar, param: str
) -> None:
    body = {"model": "base", **body}
    assert (await door.call(f"/v1/{path}", body)).status == 200
    assert compiler.compiled == [grammar]
    for verdict, code in (
        (Verdict("it is odd"), "invalid_grammar"),
        (COMPLEX, "grammar_too_complex"),
    ):
        compiler.verdicts[grammar] = verdict
        reply = await door.call(f"/v1/{path}", body)
        assert reply.status == 400
        assert str(verdict.fault) in reply.error["message"]
        if path == "messages":  # Anthropic's form says all of it in words
            assert param in reply.error["message"]
        else:
            assert (reply.error["param"], reply.error["code"]) == (param, code)
    assert len(door.vllm.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        {}, {"response_format": {"type": "json_object"}}, {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_schema"}}, {"tools": []}, {"structured_outputs": {}},
        {"tools": [function("f", SCHEMA)], "tool_choice": "none"},
        {"tools": [function("f", None)]},
    ],
)  # fmt: skip
async def test_where_there_is_no_schema_nothing_is_compiled(
    door: Door, compiler: Compiler, body: dict[str, Any]
) -> None:
    assert (await door.chat(**body)).status == 200
    assert [g for g in compiler.compiled if g != tools(("f", {"type": "object"}))] == []
    await door.chat(tools=[function("f", SCHEMA)])
    assert tools(("f", SCHEMA)) in compiler.compiled


async def test_an_awkward_tool_is_offered_without_its_schema_and_named(
    door: Door, compiler: Compiler
) -> None:
    compiler.verdicts[tools(("good", SCHEMA), ("odd, ü", ODD))] = Verdict(
        faults={1: "what is any?"}
    )
    seen: list[Any] = []

    async def look() -> None:
        seen.append(UNCONSTRAINED.get())

    door.vllm.chunks = [look, b"data: [DONE]\n\n"]
    offered = [function("good", SCHEMA), function("odd, ü", ODD)]
    reply = await door.chat(stream=True, tools=offered)
    assert reply.headers[HEADER] == b"odd%2C %C3%BC"
    assert seen == [(ODD,)]
    assert door.vllm.asked[-1][2]["tools"] == offered  # the model reads it as it is
    await door.chat(stream=True, tools=offered[:1])
    assert seen[-1] == ()


async def test_a_strict_tool_that_cannot_be_compiled_is_refused_and_named(
    door: Door, compiler: Compiler
) -> None:
    compiler.verdicts[tools(("good", SCHEMA), ("odd", ODD))] = Verdict(faults={1: "what is any?"})
    reply = await door.chat(tools=[function("good", SCHEMA), function("odd", ODD, strict=True)])
    assert (reply.status, reply.error["param"]) == (400, "tools[1].function.parameters")
    assert "what is any?" in reply.error["message"]
    reply = await door.chat(tools=[function("good", SCHEMA, strict=True), function("odd", ODD)])
    assert (reply.status, reply.headers[HEADER]) == (200, b"odd")


async def test_of_tools_that_are_too_much_together_the_strict_ones_are_held(
    door: Door, compiler: Compiler
) -> None:
    loose = {"type": "object"}
    compiler.verdicts[tools(("a", SCHEMA), ("b", SCHEMA))] = COMPLEX
    both = [function("a", SCHEMA), function("b", SCHEMA)]
    assert (await door.chat(tools=both)).headers[HEADER] == b"a, b"
    strict = [function("a", SCHEMA, strict=True), both[1]]
    assert (await door.chat(tools=strict)).headers[HEADER] == b"b"
    compiler.verdicts[tools(("a", SCHEMA), ("b", loose))] = COMPLEX
    reply = await door.chat(tools=strict)
    assert (reply.status, reply.error["code"]) == (400, "grammar_too_complex")
    assert reply.error["param"] == "tools[0].function.parameters"


async def test_a_client_that_leaves_takes_its_grammar_along(door: Door, compiler: Compiler) -> None:
    compiler.go.clear()
    body = {"model": "base", "messages": HI, "structured_outputs": {"regex": "a"}}
    leaves = asyncio.Event()
    asked = asyncio.create_task(door.call("/v1/chat/completions", body, leaves=leaves))
    leaves.set()
    await until(lambda: compiler.stopped == 1)
    compiler.go.set()
    await asked
    assert door.vllm.asked == []
    assert (await door.chat(structured_outputs={"regex": "a"})).status == 200


async def test_while_nothing_can_be_compiled_only_who_needs_it_is_asked_to_wait(
    door: Door, compiler: Compiler
) -> None:
    compiler.away = True
    assert (await door.chat(structured_outputs={"regex": "a"})).status == 503
    assert (await door.chat()).status == 200
