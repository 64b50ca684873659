"""What is kept of an answer are the tokens the engine read and sampled, id by id.

Two oracles that are not ours: what vLLM shows its client (`return_token_ids`, and the messages of a
response), and for Anthropic's endpoint, which shows no ids, the chat that is the same request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.shapes import (
    AS_CHATS,
    CHAT,
    COMPLETIONS,
    MESSAGES,
    QUESTION,
    RESPONSES,
    SHAPES,
    TOOL,
    Shown,
    ask,
    asked,
    read,
)
from support.stored import stored_answer
from support.tenant import Tenant
from tokenizers import Tokenizer

from core.database import Database
from core.errors import NotFound
from core.settings import SHIPPED_MODEL
from deploy.processes.server_process import ServerProcess
from feedback.served import Served, unpack
from feedback.types import Interaction

WHOLE_AND_STREAMED = [(name, stream) for name in SHAPES for stream in (False, True)]
AT_ONCE = 8


@pytest.fixture(scope="module")
def ann(server: ServerProcess) -> Tenant:
    """A tenant for the whole module."""
    return Tenant(server, "t-served", server.key("t-served"))


@pytest.fixture(scope="module")
def database(server: ServerProcess) -> Iterator[Database]:
    opened = server.database()
    yield opened
    opened.dispose()


def kept(database: Database, completion_id: str) -> Served:
    tokens = stored_answer(database, completion_id).tokens
    assert tokens is not None
    return unpack(tokens)


def check(served: Served, shown: Shown) -> None:
    """That what is kept is what was shown: ids, ends and counts."""
    prompts = [list(served.prompt_of(choice)) for choice in range(len(served.choices))]
    assert prompts == (
        shown.prompts if len(shown.prompts) > 1 else shown.prompts * len(served.choices)
    )
    assert [list(choice.token_ids) for choice in served.choices] == shown.choices
    assert [choice.finish_reason for choice in served.choices] == shown.finish_reasons
    assert sum(map(len, served.prompts)) == shown.prompt_tokens > 0
    assert sum(len(choice.token_ids) for choice in served.choices) == shown.completion_tokens
    assert all(choice.token_ids for choice in served.choices)


@pytest.fixture(scope="module")
def answers(ann: Tenant) -> dict[tuple[str, bool], Shown]:
    """An answer to each shape, whole and streamed; several are under way at any time."""
    with ann.http as http, ThreadPoolExecutor(AT_ONCE) as pool:

        def answer(shape: tuple[str, bool]) -> Shown:
            name, stream = shape
            return ask(http, *SHAPES[name], stream=stream)

        return dict(zip(WHOLE_AND_STREAMED, pool.map(answer, WHOLE_AND_STREAMED), strict=True))


@pytest.fixture(scope="module")
def as_chats(ann: Tenant) -> dict[str, Shown]:
    """The answers to the chats that vLLM makes of the messages."""
    with ann.http as http:
        return {name: ask(http, CHAT, fields, stream=False) for name, fields in AS_CHATS.items()}


@pytest.mark.parametrize(
    ("name", "stream"),
    [shape for shape in WHOLE_AND_STREAMED if SHAPES[shape[0]][0] != MESSAGES],
    ids=str,
)
def test_the_ids_kept_are_those_its_client_was_shown(
    answers: dict[tuple[str, bool], Shown], database: Database, name: str, stream: bool
) -> None:
    shown = answers[name, stream]
    check(kept(database, shown.id), shown)


@pytest.mark.parametrize(
    ("name", "stream"),
    [shape for shape in WHOLE_AND_STREAMED if SHAPES[shape[0]][0] == MESSAGES],
    ids=str,
)
def test_the_ids_kept_of_a_message_are_those_of_its_chat(
    answers: dict[tuple[str, bool], Shown],
    as_chats: dict[str, Shown],
    database: Database,
    name: str,
    stream: bool,
) -> None:
    """Greedy: the same prompt has one answer."""
    shown, twin = answers[name, stream], as_chats[name]
    shown.prompts, shown.choices = twin.prompts, twin.choices
    check(kept(database, shown.id), shown)


def test_the_shapes_end_in_every_way_and_say_why(
    answers: dict[tuple[str, bool], Shown], database: Database
) -> None:
    """An answer that ended has its end token, one that was cut has none, a stop string is in."""
    tokenizer = Tokenizer.from_file(str(SHIPPED_MODEL / "tokenizer.json"))
    end = tokenizer.token_to_id("<|im_end|>")
    (ended,) = kept(database, answers["chat, ended", True].id).choices
    (cut,) = kept(database, answers["chat, cut", True].id).choices
    (stopped,) = kept(database, answers["chat, stop string", True].id).choices
    (by_token,) = kept(database, answers["chat, stop token", True].id).choices
    assert (ended.finish_reason, ended.stop_reason) == ("stop", None)
    assert ended.token_ids[-1] == end
    assert (cut.finish_reason, len(cut.token_ids)) == ("length", 2)
    assert end not in cut.token_ids
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", "e")
    assert "e" in tokenizer.decode(stopped.token_ids)
    assert "e" not in stored_answer(database, answers["chat, stop string", True].id).answers[0]
    assert (by_token.finish_reason, by_token.stop_reason) == ("stop", by_token.token_ids[-1])


def test_a_second_turn_was_read_with_the_first(ann: Tenant, database: Database) -> None:
    with ann.http as http:
        first = ask(http, RESPONSES, {"input": QUESTION}, stream=False)
        fields = {"input": "And in May?", "previous_response_id": first.id}
        second = ask(http, RESPONSES, fields, stream=True)
    check(kept(database, second.id), second)
    before, now = kept(database, first.id), kept(database, second.id)
    said = before.prompts[0] + before.choices[0].token_ids
    assert now.prompts[0][: len(said)] == said


def test_a_prompt_that_is_only_echoed_has_no_answer_to_learn(
    ann: Tenant, database: Database
) -> None:
    """vLLM samples a token for it, which nobody is shown."""
    fields = {"prompt": "The ferry", "echo": True, "max_tokens": 0}
    with ann.http as http:
        shown = ask(http, COMPLETIONS, fields, stream=False)
    served = kept(database, shown.id)
    assert [list(prompt) for prompt in served.prompts] == shown.prompts
    assert [choice.token_ids for choice in served.choices] == [()]


def test_what_was_searched_for_and_not_sampled_is_not_kept(ann: Tenant, database: Database) -> None:
    with ann.http as http:
        fields = {"prompt": "The ferry", "use_beam_search": True, "n": 2, "max_tokens": 3}
        shown = ask(http, COMPLETIONS, fields, stream=False)
    answer = stored_answer(database, shown.id)
    assert len(answer.answers) == 2
    assert (answer.tokens, (answer.response or {})["unfit"]) == (None, "beam_search")


def test_of_an_answer_its_client_left_the_tokens_sampled_until_then_are_kept(
    ann: Tenant, database: Database, until_true: Callable[..., Interaction]
) -> None:
    fields = {"messages": [{"role": "user", "content": QUESTION}], "ignore_eos": True}
    with ann.http as http:
        whole = ask(http, CHAT, {**fields, "max_tokens": 400}, stream=False)
        body = asked(CHAT, {**fields, "max_tokens": 400}, stream=True)
        with http.stream("POST", CHAT, json=body) as stream:
            completion_id = stream.headers["x-request-id"]
            next(line for line in stream.iter_lines() if '"token_ids":[' in line)
    answer = until_true(database, completion_id)
    assert answer.outcome == "cancelled"
    assert answer.tokens is not None
    served = unpack(answer.tokens)
    (choice,) = served.choices
    assert [list(prompt) for prompt in served.prompts] == whole.prompts
    assert 0 < len(choice.token_ids) < 400
    assert list(choice.token_ids) == whole.choices[0][: len(choice.token_ids)]
    assert choice.finish_reason is None


@pytest.fixture
def until_true() -> Callable[..., Interaction]:
    """Waits for an answer to be stored."""
    import time

    def wait(database: Database, completion_id: str) -> Interaction:
        deadline = time.monotonic() + 20
        while True:
            try:
                return stored_answer(database, completion_id)
            except NotFound:
                assert time.monotonic() < deadline, "the cancelled answer was never stored"
                time.sleep(0.05)

    return wait


def test_of_many_answers_at_once_each_keeps_its_own(
    server: ServerProcess, database: Database
) -> None:
    """64 streams of four tenants, each with a prompt and a seed of its own."""
    keys = [server.key(f"t-at-once-{number}") for number in range(4)]

    async def one(http: httpx.AsyncClient, number: int) -> httpx.Response:
        fields = {
            "messages": [{"role": "user", "content": f"{number}. {QUESTION} {'x ' * number}"}],
            "temperature": 1.2,
            "seed": number,
            "n": 1 + number % 2,
        }
        return await http.post(
            CHAT,
            json=asked(CHAT, fields, stream=True),
            headers={"authorization": f"Bearer {keys[number % 4]}"},
        )

    async def all_of_them() -> list[Shown]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http:
            got = await asyncio.gather(*(one(http, number) for number in range(64)))
        return [read(CHAT, answer, stream=True) for answer in got]

    shown = asyncio.run(all_of_them())
    assert len({tuple(each.prompts[0]) for each in shown}) == 64
    for each in shown:
        check(kept(database, each.id), each)


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=24)
parts = texts | st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, texts), min_size=1, max_size=3
)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "developer"]), "content": parts}
    ),
    min_size=1,
    max_size=4,
)
shared = {
    "n": st.integers(1, 3),
    "max_tokens": st.integers(1, 12),
    "temperature": st.sampled_from([0.0, 1.0, 2.0]),
    "seed": st.integers(0, 2**31),
    "stop": texts,
    "min_tokens": st.just(1),
    "ignore_eos": st.booleans(),
    "skip_special_tokens": st.booleans(),
    "include_stop_str_in_output": st.booleans(),
    "truncate_prompt_tokens": st.integers(1, 8),
    "stream_interval": st.integers(1, 5),
}
chats = st.fixed_dictionaries(
    {"messages": turns},
    optional={
        **shared,
        "tools": st.just([TOOL]),
        "add_generation_prompt": st.booleans(),
        "chat_template_kwargs": st.just({"tools": []}),
    },
)
ids = st.lists(st.integers(3, 1791), min_size=1, max_size=12)
completions = st.fixed_dictionaries(
    {
        "prompt": texts
        | ids
        | st.lists(texts, min_size=1, max_size=3)
        | st.lists(ids, min_size=1, max_size=3)
    },
    optional={**shared, "echo": st.booleans(), "add_special_tokens": st.booleans()},
)

items = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "developer"]), "content": texts}
    ),
    min_size=1,
    max_size=4,
)
responses = st.fixed_dictionaries(
    {"input": texts | items},
    optional={
        "instructions": texts,
        "max_output_tokens": st.integers(1, 12),
        "temperature": st.sampled_from([0.0, 1.0, 2.0]),
        "truncation": st.sampled_from(["auto", "disabled"]),
        "tools": st.just([{"type": "function", **TOOL["function"]}]),
        "store": st.booleans(),
    },
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(st.just(CHAT), chats)
    | st.tuples(st.just(COMPLETIONS), completions)
    | st.tuples(st.just(RESPONSES), responses),
    st.booleans(),
)
def test_whatever_is_asked_the_ids_kept_are_those_shown(
    ann: Tenant, database: Database, request_: tuple[str, dict[str, Any]], stream: bool
) -> None:
    path, fields = request_
    with ann.http as http:
        answer = http.post(path, json=asked(path, fields, stream=stream))
    assume(answer.status_code != 400)  # several choices of a greedy answer, and the like
    shown = read(path, answer, stream=stream)
    check(kept(database, shown.id), shown)
