"""Whatever is taken can be read back: as it was sent, by itself, in a list, in a snapshot; the rest
is refused by the field it stands in. On both databases, for values nobody listed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.door import Door, open_door

from core.clock import now_s
from core.database import Database
from core.errors import Invalid
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.interactions import InteractionStore
from feedback.learning.datasets import freeze, from_bytes, to_bytes
from feedback.store import FeedbackStore
from feedback.types import Feedback, Interaction, Label, Prompt, Prompts
from server.answers.prompts import recorded_prompt
from server.door.requests import parse_request, recorded_rest, recorded_sampling

QUICK = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
SOUND_TEXT = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20
)
TITLES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp")), max_size=20)
SOUND_NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
ODD_TEXT = st.text(max_size=20) | st.sampled_from(
    ["\0", "\ud83d", "\\u0000", "\x1b[2J", "e\u0301", "東京", "\u202e", "\u2028", "", " "]
)
ODD_NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**53 + 1, 2**63, 2**64, 10**300, 10**5000, 1e308, -0.0, 5e-324]),
)


def any_json(text: st.SearchStrategy[str], numbers: st.SearchStrategy[Any]) -> Any:
    """JSON with such texts and numbers in it."""
    return st.recursive(
        st.none() | st.booleans() | numbers | text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=12,
    )


SOUND, ODD = any_json(SOUND_TEXT, SOUND_NUMBERS), any_json(ODD_TEXT, ODD_NUMBERS)


@st.composite
def feedback(draw: st.DrawFn) -> dict[str, Any]:
    """What somebody says, half of it odd."""
    odd = draw(st.booleans())
    text, anything = (ODD_TEXT, ODD) if odd else (SOUND_TEXT, SOUND)
    names = ODD_TEXT if odd else st.text("abc", min_size=1)
    said = {
        "metadata": draw(st.dictionaries(text, anything, max_size=4)),
        "tags": draw(st.dictionaries(names, names, max_size=3)),
        "comment": draw(text),
        "user": draw(ODD_TEXT if odd else TITLES),
        "value": draw(st.booleans() | ODD_NUMBERS | ODD_TEXT if odd else st.floats(-9, 9)),
    }
    return {name: value for name, value in said.items() if value != ""}


def nested(levels: int, leaf: Any = 1) -> Any:
    """`leaf` below so many lists and objects."""
    for level in range(levels):
        leaf = [leaf] if level % 2 else {"in": leaf}
    return leaf


def odd_json(sent: Any) -> bytes:
    """As a client may write it, NaN, numbers of thousands of digits and half pairs too."""
    return json.dumps(sent).encode()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def door(loop: asyncio.AbstractEventLoop, tmp_path: Path, database_url: str) -> Iterator[Door]:
    opened = loop.run_until_complete(open_door(tmp_path, database_url))
    yield opened
    loop.run_until_complete(opened.runtime.stop())


class Caller:
    """A client that is waited for."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = door.client("acme", "feedback", "train", "inference"), loop

    def __call__(self, method: str, path: str, sent: Any = None) -> httpx.Response:
        content = None if sent is None else odd_json(sent)
        return self._loop.run_until_complete(self._client.request(method, path, content=content))


@pytest.fixture(autouse=True)
def long_numbers() -> Iterator[None]:
    """Python itself writes no numbers of more than 4,300 digits; others do."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


def all_listed(call: Caller) -> list[dict[str, Any]]:
    """Every item of feedback, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        after = f"&after={found[-1]['id']}" if found else ""
        page = call("GET", f"/v1/feedback?limit=7{after}")
        assert page.status_code == 200, page.text
        found += page.json()["data"]
        if not page.json()["has_more"]:
            return found


def test_feedback_reads_back_as_it_was_sent_or_is_refused_by_field(
    door: Door, loop: asyncio.AbstractEventLoop
) -> None:
    call = Caller(door, loop)
    answer = "chatcmpl-" + door.runtime.signer.token(door.tenant("acme"))
    taken: dict[str, dict[str, Any]] = {}

    @QUICK
    @given(feedback())
    def give(said: dict[str, Any]) -> None:
        sent = {"completion_id": answer, "name": "quality", "value": 1, **said}
        got = call("POST", "/v1/feedback", sent)
        if got.status_code != 201:
            assert got.status_code == 400, got.text
            return
        taken[got.json()["id"]] = sent

    give()
    for name, value in (("metadata", {"m": nested(98)}), ("value", 0.1), ("comment", "a\u2028b")):
        sent = {"completion_id": answer, "name": "quality", "value": 1, name: value}
        got = call("POST", "/v1/feedback", sent)
        assert got.status_code == 201, got.text
        taken[got.json()["id"]] = sent
    assert len(taken) > 15
    listed = {item["id"]: item for item in all_listed(call)}
    assert listed.keys() == taken.keys()
    for own_id, sent in taken.items():
        item = call("GET", f"/v1/feedback/{own_id}").json()
        assert item == listed[own_id]
        assert item["metadata"] == sent.get("metadata", {})
        assert item["tags"] == sent.get("tags", {})
        assert item["value"] == sent["value"]
        assert item["comment"] == (sent.get("comment") if sent.get("comment", "").strip() else None)
        assert item["user"] == (normalize("NFC", sent["user"]) if sent.get("user") else None)


UNREADABLE: list[tuple[str, Any]] = [
    ("metadata", {"m": nested(100)}), ("metadata", {"m": nested(254)}),
    ("metadata", {"m": 2**64}), ("metadata", {"m": "\0"}), ("metadata", {"\0": 1}),
    ("metadata", {"m": "x" * 17_000}), ("comment", "a\0b"), ("value", 2**53 + 1),
    ("value", -(10**400)), ("name", "a\0"), ("tags", {"t": "\0"}), ("user", "a\nb"),
    ("user", "\u202egro.knab"), ("user", "x" * 257), ("source", {"kind": "human", "id": "a\x9bb"}),
]  # fmt: skip


def test_what_could_not_be_read_back_is_refused_by_its_name_and_hides_nothing(
    door: Door, loop: asyncio.AbstractEventLoop
) -> None:
    call = Caller(door, loop)
    answer = "chatcmpl-" + door.runtime.signer.token(door.tenant("acme"))
    said = {"completion_id": answer, "name": "quality", "value": 1}
    assert call("POST", "/v1/feedback", said).status_code == 201
    for field, value in UNREADABLE:
        refused = call("POST", "/v1/feedback", {**said, field: value})
        assert refused.status_code == 400, (field, value)
        assert refused.json()["error"]["param"].split(".")[0] == field
    for number in (float("nan"), float("inf"), 10**5000):  # no JSON, or none that Python reads
        refused = call("POST", "/v1/feedback", {**said, "value": number})
        assert refused.json()["error"]["code"] == "invalid_json"
    assert len(all_listed(call)) == 1


def test_one_item_that_lies_too_deep_hides_no_other(
    door: Door, loop: asyncio.AbstractEventLoop
) -> None:
    """As an earlier state of the server took it."""
    call, tenant_id = Caller(door, loop), door.tenant("acme")
    store = FeedbackStore(door.runtime.database)
    for own_id, levels in (("old", 500), ("new", 5)):
        item = Feedback(
            FeedbackId(own_id), tenant_id, now_s(), CompletionId("chatcmpl-1"), value=True,
            metadata={"m": nested(levels)},
        )  # fmt: skip
        store.put(item)
    listed = {item["id"]: item["metadata"] for item in all_listed(call)}
    assert listed["new"] == {"m": nested(5)}
    assert "too deeply" in listed["old"]["unreadable"]


def answered(endpoint: str, body: dict[str, Any], number: int) -> Interaction | None:
    """The record of a request as the door would make it; None if it refuses it."""
    try:
        asked = parse_request(odd_json({"model": "base", **body}), {}, endpoint)
    except Invalid:
        return None
    return Interaction(
        id=CompletionId(f"chatcmpl-{number}"),
        tenant_id=TenantId("ten_us"),
        endpoint=endpoint,
        created_at_s=now_s(),
        outcome="completed",
        model_requested="base",
        model_answered="base",
        adapter_id=AdapterId("ada_1"),
        version=1,
        explored=False,
        prompt=recorded_prompt(endpoint, asked.body),
        answers=("yes\0\u2028",),
        finish_reason="stop",
        end_user=asked.end_user,
        domain=asked.domain,
        sampling=recorded_sampling(asked.body),
        request=recorded_rest(asked.body),
        response={"tool_calls": [body.get("tools")]},
    )


def alone(prompt: Prompts) -> Prompt:
    """As a prompt that can be learnt from; of several there is none."""
    if isinstance(prompt, str):
        return prompt
    return tuple(message for message in prompt if isinstance(message, Mapping))


def test_a_request_the_door_lets_through_is_recorded_and_read_as_it_was(
    database: Database,
) -> None:
    store, kept = InteractionStore(database), dict[str, Interaction]()

    @QUICK
    @given(
        endpoint=st.sampled_from(["chat.completions", "completions", "responses", "messages"]),
        content=SOUND | ODD,
        extra=SOUND | ODD,
        user=TITLES | ODD_TEXT,
    )
    def ask(endpoint: str, content: Any, extra: Any, user: str) -> None:
        body = {
            "messages": [{"role": "user", "content": content, "x": extra}],
            "prompt": content,
            "input": [{"role": "user", "content": extra}],
            "metadata": {"x": extra},
            "seed": extra,
            "tools": content,
            "user": user,
        }
        record = answered(endpoint, body, len(kept))
        if record is not None:
            store.append([record])
            kept[record.id] = record

    ask()
    deepest = answered("messages", {"messages": [{"role": "user", "content": nested(97)}]}, 10_000)
    assert deepest is not None
    store.append([deepest])
    kept[deepest.id] = deepest
    assert len(kept) > 10
    read = store.list(TenantId("ten_us"), limit=200).items
    assert {one.id: one for one in read} == kept
    labels = [
        Label(
            alone(one.prompt),
            one.answers[0],
            True,
            1,
            one.end_user,
            1.0,
            (FeedbackId("f"),),
            (one.id,),
        )
        for one in read
    ]
    snapshot = freeze(AdapterId("ada_1"), labels, (), {}, 0.2)
    assert from_bytes(to_bytes(snapshot), digest=snapshot.digest) == snapshot


@pytest.mark.parametrize("field", ["tools", "messages", "metadata", "logit_bias", "unknown"])
@pytest.mark.parametrize("levels", [101, 254, 900])
def test_a_request_nested_too_deeply_is_refused_before_it_is_answered(
    field: str, levels: int
) -> None:
    raw = msgspec.json.encode({"model": "base", field: nested(levels, {})})
    with pytest.raises(Invalid) as refused:
        parse_request(raw, {}, "chat.completions")
    assert refused.value.param == field
    assert "100 levels" in refused.value.message


BODIES: list[tuple[str, Any, str]] = [
    ("/v1/adapters", {"name": "a", "scope": "user", "subject": "a\0"}, "subject"),
    ("/v1/adapters", {"name": "a", "learning": {"max_age_s": 10**400}}, "learning"),
    ("/v1/adapters", {"name": "a", "learning": {"min_labels": 2**70}}, "learning"),
    ("/v1/adapters/old/activate", {"version": None, "reason": "a\0b"}, "reason"),
    ("/v1/adapters/old/activate", {"version": None, "reason": "x" * 501}, "reason"),
    ("/v1/adapters/old/rollback", {"reason": "x" * 501}, "reason"),
    ("/v1/runs", {"adapter": "a\0"}, "adapter"),
    ("/v1/exports", {"model": "a\0"}, "model"),
]


def test_every_body_of_ours_is_held_to_it(door: Door, loop: asyncio.AbstractEventLoop) -> None:
    door.adapter("acme", "old")
    call = Caller(door, loop)
    for path, sent, param in BODIES:
        refused = call("POST", path, sent)
        assert refused.status_code == 400, (path, sent)
        assert refused.json()["error"]["param"].split(".")[0] == param


def test_a_reason_is_told_as_it_was_given(door: Door, loop: asyncio.AbstractEventLoop) -> None:
    door.adapter("acme", "old")
    call = Caller(door, loop)
    reason = "two\nlines, \x1b[2J and 東京 " + "x" * 470
    sent = {"version": None, "reason": reason}
    assert call("POST", "/v1/adapters/old/activate", sent).status_code == 200
    assert call("GET", "/v1/adapters/old").json()["history"][0]["reason"] == reason
