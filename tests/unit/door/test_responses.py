"""Responses that go on from earlier ones, and what their ids give."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.asgi import END, Door, Reply
from support.responses import message, response, user

from feedback.learning.reading import read_feedback
from feedback.learning.recorded import anything_fits

CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"at":"Morva"}',
    "status": "completed",
}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [], "content": [
    {"type": "reasoning_text", "text": "Hm."}]}  # fmt: skip


@pytest.fixture(autouse=True)
def answers(door: Door) -> None:
    door.vllm.document = response


async def create(door: Door, *, key: str | None = None, **body: Any) -> Reply:
    return await door.call("/v1/responses", {"model": "base", **body}, key=key)


async def answered(door: Door, **body: Any) -> dict[str, Any]:
    reply = await create(door, **body)
    assert reply.status == 200, reply.body
    read: dict[str, Any] = json.loads(reply.body)
    return read


async def get(door: Door, path: str, query: bytes = b"", key: str | None = None) -> Any:
    reply = await door.call(f"/v1/responses/{path}", method="GET", query=query, key=key)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def engine_read(door: Door) -> Any:
    """The input of the last request the engine got."""
    return door.vllm.asked[-1][2]["input"]


async def test_the_engine_reads_the_whole_conversation_and_the_client_is_told_from_where(
    door: Door,
) -> None:
    first = await answered(door, input="Hi", instructions="Be brief.", metadata={"a": "b"})
    assert first["previous_response_id"] is None
    reply = await create(door, input="More", previous_response_id=first["id"])
    second = json.loads(reply.body)
    assert engine_read(door) == [user("Hi"), *first["output"], user("More")]
    assert "previous_response_id" not in door.vllm.asked[-1][2]
    assert second["previous_response_id"] == first["id"]
    assert int(reply.headers[b"content-length"]) == len(reply.body)
    third = await answered(door, input=[user("And?")], previous_response_id=second["id"])
    expected = [user("Hi"), *first["output"], user("More"), *second["output"], user("And?")]
    assert engine_read(door) == expected
    assert third["output"][0]["content"][0]["text"] == "I read 5."
    kept = door.recorded()[-1]
    assert (list(kept.prompt), kept.answers) == (expected, ("I read 5.",))
    assert kept.request["previous_response_id"] == second["id"]


async def test_instructions_are_not_carried_over(door: Door) -> None:
    first = await answered(door, input="Hi", instructions="Be brief.")
    second = await answered(
        door, input="More", instructions="Be long.", previous_response_id=first["id"]
    )
    assert engine_read(door) == [user("Hi"), *first["output"], user("More")]
    assert door.vllm.asked[-1][2]["instructions"] == "Be long."
    assert door.recorded()[-1].prompt[0] == {"role": "system", "content": "Be long."}
    await answered(door, input="And?", previous_response_id=second["id"])
    assert "instructions" not in door.vllm.asked[-1][2]
    assert not any(item.get("role") == "system" for item in engine_read(door))


@pytest.mark.parametrize("instructions", ["", "Be brief."])
async def test_a_system_message_in_the_input_is_part_of_the_conversation(
    door: Door, instructions: str
) -> None:
    told = [{"role": "system", "content": "S"}, user("Hi")]
    first = await answered(door, input=told, instructions=instructions)
    await answered(door, input="More", previous_response_id=first["id"])
    assert engine_read(door) == [*told, *first["output"], user("More")]


async def test_thoughts_and_calls_of_tools_are_given_back_to_the_engine(door: Door) -> None:
    door.vllm.document = lambda asked: response(asked, THOUGHT, CALL)
    first = await answered(door, input="Weather?")
    door.vllm.document = response
    second = await answered(door, input=[RESULT], previous_response_id=first["id"])
    assert engine_read(door) == [user("Weather?"), THOUGHT, CALL, RESULT]
    items = await get(door, f"{second['id']}/input_items", b"order=asc")
    assert [item["type"] for item in items["data"]] == [
        "message", "reasoning", "function_call", "function_call_output"
    ]  # fmt: skip


@pytest.mark.parametrize("new", [{}, {"input": None}, {"input": []}])
async def test_with_nothing_new_the_engine_reads_what_was_said(door: Door, new: Any) -> None:
    first = await answered(door, input="Hi")
    await answered(door, previous_response_id=first["id"], **new)
    assert engine_read(door) == [user("Hi"), *first["output"]]


async def test_one_response_may_be_gone_on_from_twice(door: Door) -> None:
    first = await answered(door, input="Hi")
    asked = [create(door, input=text, previous_response_id=first["id"]) for text in ("A", "B")]
    for reply in await asyncio.gather(*asked):
        assert reply.status == 200
    ends = {json.dumps(sent["input"][-1]) for _, _, sent in door.vllm.asked[1:]}
    assert ends == {json.dumps(user(text)) for text in ("A", "B")}


async def test_a_streamed_response_says_so_in_each_event_and_is_there_at_its_end(
    door: Door,
) -> None:
    first = await answered(door, input="Hi")
    begun = {"type": "response.created", "response": {"previous_response_id": None}}
    quoted = {"type": "response.output_text.delta", "delta": '"response":{"previous_response_id"'}
    door.vllm.chunks = [
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        for event in (begun, quoted)
    ] + [END]
    reply = await create(door, input="More", stream=True, previous_response_id=first["id"])
    told = [json.loads(line[6:]) for line in reply.body.split(b"\n") if line.startswith(b"data: ")]
    assert [event["type"] for event in told] == [
        "response.created", "response.output_text.delta", "response.completed"
    ]  # fmt: skip
    assert told[1] == quoted
    responses = [event["response"] for event in told if "response" in event]
    assert [one["previous_response_id"] for one in responses] == [first["id"]] * 2
    assert await get(door, responses[-1]["id"]) == responses[-1]
    door.vllm.chunks = None
    await answered(door, input="And?", previous_response_id=responses[-1]["id"])
    assert len(engine_read(door)) == 5


async def test_a_response_is_fetched_as_its_client_got_it(door: Door, tmp_path: Path) -> None:
    door.push("support", tmp_path / "a")
    first = await answered(door, model="support", input="Hi", metadata={"a": "b"})
    assert await get(door, first["id"]) == first
    second = await answered(door, input="More", previous_response_id=first["id"])
    assert await get(door, second["id"], b"stream=false") == second


async def test_input_items_come_in_pages_newest_first(door: Door) -> None:
    parts = [{"type": "input_text", "text": "Hi"}]
    first = await answered(
        door, input=[{"role": "user", "content": parts, "id": "mine"}, user("B")]
    )
    second = await answered(door, input="More", previous_response_id=first["id"])
    path = f"{second['id']}/input_items"
    whole = await get(door, path)
    ids = [item["id"] for item in whole["data"]]
    assert (len(set(ids)), ids[-1], whole["has_more"]) == (4, "mine", False)
    texts = [item["content"][0]["text"] for item in whole["data"]]
    assert texts == ["More", "I read 2.", "B", "Hi"]
    assert {item["content"][0]["type"] for item in whole["data"]} == {"input_text", "output_text"}
    seen, after = list[str](), b""
    while True:
        page = await get(door, path, b"limit=3&order=asc" + after)
        seen += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        after = b"&after=" + page["last_id"].encode()
    assert seen == ids[::-1]


async def test_items_with_one_id_are_still_told_apart(door: Door) -> None:
    twice = [
        {"role": "user", "content": "A", "id": "x"},
        {"role": "user", "content": "B", "id": "x"},
    ]
    first = await answered(door, input=twice)
    items = await get(door, f"{first['id']}/input_items")
    assert len({item["id"] for item in items["data"]}) == 2


@pytest.mark.parametrize("query", [b"limit=0", b"limit=101", b"limit=x", b"order=up"])
async def test_a_page_that_cannot_be_is_refused(door: Door, query: bytes) -> None:
    first = await answered(door, input="Hi")
    path = f"/v1/responses/{first['id']}/input_items"
    assert (await door.call(path, method="GET", query=query)).status == 400
    assert (await door.call(path, method="GET", query=b"after=no")).status == 404


@pytest.mark.parametrize(
    "query",
    [b"stream=true", b"stream=1", b"include[]=reasoning.encrypted_content", b"include=x",
     b"starting_after=3", b"stream=false&include%5B%5D=x"],
)  # fmt: skip
async def test_what_a_fetched_response_cannot_be_is_refused_clearly(
    door: Door, query: bytes
) -> None:
    first = await answered(door, input="Hi")
    reply = await door.call(f"/v1/responses/{first['id']}", method="GET", query=query)
    assert (reply.status, reply.error["code"]) == (400, "unsupported_parameter")
    assert reply.error["param"].split("[")[0] in query.decode().replace("%5B", "[")


async def test_a_deleted_response_is_gone_with_what_was_asked(door: Door) -> None:
    first = await answered(door, input="Hi")
    second = await answered(door, input="More", previous_response_id=first["id"])
    reply = await door.call(f"/v1/responses/{first['id']}", method="DELETE")
    assert (reply.status, json.loads(reply.body)) == (
        200, {"id": first["id"], "object": "response", "deleted": True}
    )  # fmt: skip
    assert await gone(door, first["id"])
    assert [kept.id for kept in door.recorded()] == [second["id"]]
    await answered(door, input="And?", previous_response_id=second["id"])  # which holds it all
    assert len(engine_read(door)) == 5


async def gone(door: Door, response_id: str, key: str | None = None) -> bool:
    """Whether it is unknown in every way, in the same words as one that never was."""
    never = "resp_" + "0" * 40
    told = []
    for name in (response_id, never):
        asked = [
            await door.call(f"/v1/responses/{name}", method="GET", key=key),
            await door.call(f"/v1/responses/{name}/input_items", method="GET", key=key),
            await door.call(f"/v1/responses/{name}", method="DELETE", key=key),
            await door.call(f"/v1/responses/{name}/cancel", key=key),
            await create(door, input="More", previous_response_id=name, key=key),
        ]
        told.append([(r.status, r.body.replace(name.encode(), b"")) for r in asked])
    assert {status for status, _ in told[1]} == {404}
    return told[0] == told[1]


async def test_a_response_that_was_not_to_be_stored_is_recorded_but_not_found(door: Door) -> None:
    first = await answered(door, input="Hi", store=False)
    assert await gone(door, first["id"])
    assert [kept.id for kept in door.recorded()] == [first["id"]]
    kept = await answered(door, input="Hi", store=None)
    assert not await gone(door, kept["id"])


async def test_another_tenants_response_does_not_exist(door: Door) -> None:
    first = await answered(door, input="Hi")
    stranger = door.new_key("inference", tenant="stranger")
    assert await gone(door, first["id"], stranger)
    assert await get(door, first["id"]) == first


async def test_another_endpoints_answer_is_no_response(door: Door) -> None:
    first = await answered(door, input="Hi")
    door.vllm.document = {"choices": [{"index": 0, "message": {"content": "Hi"}}]}
    chat_id = (await door.chat()).headers[b"x-request-id"].decode()
    token = first["id"].removeprefix("resp_")
    door.vllm.document = response
    for name in (chat_id, chat_id.replace("chatcmpl-", "resp_"), "chatcmpl-" + token, token):
        assert await gone(door, name)


async def test_an_answer_that_was_withheld_or_cut_off_is_no_response(
    door: Door, tmp_path: Path
) -> None:
    engine_id = door.push("support", tmp_path / "a")
    await door.runtime.sync.refresh()
    door.engine.leave(engine_id)
    reply = await create(door, model="support", input="Hi")
    assert reply.status == 503
    assert await gone(door, reply.headers.get(b"x-request-id", b"").decode() or ids(door)[-1])
    door.vllm.chunks, door.vllm.cut = [b"data: {}\n\n"], True
    cut = await create(door, input="Hi", stream=True)
    door.vllm.chunks, door.vllm.cut = None, False
    async with asyncio.timeout(10):
        while len(ids(door)) < 2:
            await asyncio.sleep(0.01)
    assert await gone(door, cut.headers[b"x-request-id"].decode())


def ids(door: Door) -> list[str]:
    return [str(kept.id) for kept in door.recorded()]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("background", True), ("background", "false"), ("background", 1),
        ("conversation", "conv_1"), ("conversation", {"id": "conv_1"}), ("conversation", ""),
        ("store", "no"), ("store", 0), ("store", []),
        ("previous_response_id", 5), ("previous_response_id", ["x"]), ("previous_response_id", {}),
    ],
)  # fmt: skip
async def test_what_is_not_done_here_is_refused_before_the_engine(
    door: Door, field: str, value: Any
) -> None:
    reply = await create(door, input="Hi", **{field: value})
    assert (reply.status, reply.error["param"]) == (400, field)
    assert door.vllm.asked == []


@pytest.mark.parametrize(
    "name", ["", "x", "resp_", "resp_" + "0" * 40, "resp_\u202e", "resp_" + "a" * 5000, "\x00"]
)
async def test_no_id_that_was_made_up_is_asked_for(door: Door, name: str) -> None:
    door.runtime.interactions.fetchable = None  # type: ignore[method-assign,assignment]
    reply = await create(door, input="Hi", previous_response_id=name)
    assert (reply.status, reply.error["code"]) == (404, "previous_response_not_found")
    assert len(reply.error["message"]) < 300
    assert door.vllm.asked == []


async def test_cancelling_is_refused_for_what_was_answered(door: Door) -> None:
    first = await answered(door, input="Hi")
    reply = await door.call(f"/v1/responses/{first['id']}/cancel")
    assert reply.status == 400
    assert "close its connection" in reply.error["message"]


async def test_a_key_without_the_scope_of_inference_is_refused(door: Door) -> None:
    first = await answered(door, input="Hi")
    key = door.new_key("feedback", "train")
    for method in ("GET", "DELETE"):
        reply = await door.call(f"/v1/responses/{first['id']}", method=method, key=key)
        assert reply.status == 403


async def test_trouble_with_the_database_is_told_as_such(door: Door, tmp_path: Path) -> None:
    first = await answered(door, input="Hi")
    for database in (door.runtime.database, door.runtime.own_database):
        database.dispose()
    (tmp_path / "attune.db").rename(tmp_path / "away.db")
    (tmp_path / "attune.db").mkdir()
    for reply in (
        await create(door, input="More", previous_response_id=first["id"]),
        await door.call(f"/v1/responses/{first['id']}", method="GET"),
        await door.call(f"/v1/responses/{first['id']}", method="DELETE"),
    ):
        assert reply.status == 503
        assert reply.headers[b"retry-after"]
        assert b"SELECT" not in reply.body


async def test_a_turn_is_one_read_however_many_came_before(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    find = door.runtime.interactions.fetchable

    def counted(*about: Any) -> Any:
        nonlocal reads
        reads += 1
        return find(*about)

    monkeypatch.setattr(door.runtime.interactions, "fetchable", counted)
    last = await answered(door, input="0")
    for turn in range(1, 20):
        last = await answered(door, input=str(turn), previous_response_id=last["id"])
        assert (reads, len(engine_read(door))) == (turn, 2 * turn + 1)


async def test_what_the_engine_refuses_is_told_in_its_words(door: Door) -> None:
    first = await answered(door, input="Hi")
    door.vllm.status, door.vllm.document = 400, {"error": {"message": "too long"}}
    reply = await create(door, input="x", previous_response_id=first["id"])
    assert (reply.status, reply.error) == (400, {"message": "too long"})
    reply = await create(door, input=5, previous_response_id=first["id"])
    assert (reply.status, reply.error["param"]) == (400, "input")


async def test_feedback_on_a_conversation_teaches_the_whole_of_it(
    door: Door, tmp_path: Path
) -> None:
    """Turns as the model read them; what it thought is no turn."""
    door.push("support", tmp_path / "a")
    door.vllm.document = lambda asked: response(asked, THOUGHT, message("Hello."))
    first = await answered(door, model="support", input="Hi", instructions="Be brief.")
    parts = [{"type": "input_text", "text": "More"}, {"type": "input_text", "text": "please"}]
    second = await answered(
        door,
        model="support",
        input=[{"role": "user", "content": parts}],
        previous_response_id=first["id"],
    )
    thumb = {"completion_id": second["id"], "value": True}
    assert (await door.call("/v1/feedback", thumb)).status in (200, 201)
    (adapter,) = door.runtime.registry.adapters()
    (label,) = read_feedback(door.runtime.feedback, adapter, anything_fits, newest=100).labels
    assert label.prompt == (
        user("Hi"),
        {"role": "assistant", "content": "Hello."},
        user("More\nplease"),
    )
    assert label.completion == "Hello."
    assert (await door.call(f"/v1/responses/{second['id']}", method="DELETE")).status == 200
    learnt = read_feedback(door.runtime.feedback, adapter, anything_fits, newest=100)
    assert learnt.labels == ()
    assert door.runtime.feedback.news(adapter.id, 0) is None
    assert len(door.runtime.feedback.list(door.tenant.id).items) == 1
