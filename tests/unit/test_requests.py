"""Request bodies: what Attune reads in them, what the engine gets, what is kept."""

from __future__ import annotations

import json
import time
import unicodedata
from typing import Any

import pytest

from core.errors import Invalid
from core.ids import TenantId
from server.answers.transcript import ENDPOINTS
from server.door.requests import (
    engine_body,
    parse_request,
    recorded_rest,
    recorded_sampling,
)

US = TenantId("ten_us")
PATHS = {endpoint: path for path, endpoint in ENDPOINTS.items()} | {"": "/tokenize"}


def parse(
    body: Any, headers: dict[bytes, bytes] | None = None, endpoint: str = "chat.completions"
) -> Any:
    return parse_request(json.dumps(body).encode(), headers or {}, endpoint)


def sent(body: dict[str, Any], endpoint: str = "chat.completions") -> dict[str, Any]:
    """What the engine gets for this body."""
    asked = parse(body, endpoint=endpoint)
    raw = engine_body(
        asked,
        endpoint=endpoint,
        path=PATHS[endpoint],
        engine_model="ten_us/a@1",
        tenant_id=US,
        request_id="id-1",
    )
    read: dict[str, Any] = json.loads(raw)
    return read


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"1", b"\xff\xfe", b'{"model":"base"', b"{}x",
        b'{"model":"base","x":NaN}', b'{"model":"\\ud800"}', b"[" * 200_000,
        b'{"model":"base","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model":"base","x":1e999}', b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_what_is_not_one_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        parse_request(raw, {}, "chat.completions")
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("body", [{}, {"model": ""}, {"model": None}, {"model": 3}, {"model": []}])
def test_a_request_without_a_model_is_told_so(body: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        parse(body)
    assert (refused.value.param, refused.value.code) == ("model", "missing_required_parameter")


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("user", 5, "user"), ("user", "x" * 257, "user"), ("user", "a\nb", "user"),
        ("user", "a\x00", "user"), ("safety_identifier", ["x"], "user"),
        ("metadata", [], "metadata"), ("metadata", "x", "metadata"),
        ("metadata", {"domain": 5}, "metadata.domain"),
        ("metadata", {"conversation_id": "x" * 300}, "metadata.conversation_id"),
        ("metadata", {"user_id": 7}, "user"),
        ("stream", "false", "stream"), ("stream", 1, "stream"), ("stream", [], "stream"),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any, param: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse({"model": "base", field: value})
    assert refused.value.param == param


def test_user_domain_and_conversation_are_read_from_the_usual_places() -> None:
    body = {"model": "auto", "user": "bob", "metadata": {"domain": "law", "conversation_id": "c"}}
    asked = parse(body)
    assert (asked.end_user, asked.domain, asked.conversation_id) == ("bob", "law", "c")
    assert parse({**body, "safety_identifier": "ann"}).end_user == "ann"
    assert parse({"model": "a", "metadata": {"user_id": "eve"}}).end_user == "eve"
    headers = {b"x-attune-domain": b"art", b"x-attune-conversation": b"d"}
    named = parse(body, headers)
    assert (named.domain, named.conversation_id) == ("art", "d")
    plain = parse({"model": "a", "user": "", "metadata": None})
    assert (plain.end_user, plain.domain, plain.conversation_id) == (None, None, None)


def test_the_engine_gets_its_own_model_name_and_the_tenants_salt() -> None:
    body = {"model": "a", "messages": [], "cache_salt": "mine", "request_id": "chosen"}
    got = sent(body)
    assert (got["model"], got["cache_salt"]) == ("ten_us/a@1", "ten_us:mine")
    for salt in (None, "", 5, ["x"]):
        assert sent({"model": "a", "cache_salt": salt})["cache_salt"] == "ten_us"
    assert sent({"model": "a"})["cache_salt"] == "ten_us"


def test_the_engine_gets_no_parameter_that_has_no_bound() -> None:
    """A newer vLLM may know what today's ignores; who sends it is answered all the same."""
    assert sent({"model": "a", "messages": [], "temperature": 1}).keys() >= {"temperature"}
    got = sent({"model": "a", "messages": [], "invented_tomorrow": 1, "store": True})
    assert got.keys() == {"model", "messages", "cache_salt"}


@pytest.mark.parametrize("empty", [[], None])
@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_an_empty_list_of_tools_counts_as_none(empty: Any, choice: str | None) -> None:
    body = {"model": "a", "messages": [], "tools": empty, "tool_choice": choice}
    got = sent({**body, "parallel_tool_calls": False})
    assert got.keys() == {"model", "messages", "cache_salt"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert sent({**body, "tools": tools}).keys() >= {"tools", "tool_choice"}


def test_no_salt_a_client_chooses_is_another_tenants() -> None:
    salts = {sent({"model": "a", "cache_salt": s})["cache_salt"] for s in ("ten_them", ":ten_them")}
    assert all(salt.startswith("ten_us:") for salt in salts)


def test_a_response_is_stored_under_our_id_not_the_clients() -> None:
    assert sent({"model": "a", "request_id": "resp_mine"}, "responses")["request_id"] == "id-1"


def test_a_name_given_twice_means_the_same_to_us_and_to_the_engine() -> None:
    asked = parse_request(b'{"model":"base","model":"secret"}', {}, "")
    raw = engine_body(
        asked, endpoint="", path="/tokenize", engine_model="e", tenant_id=US, request_id="i"
    )
    assert asked.model == "secret"
    assert raw.count(b'"model"') == 1


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        (None, True), ({}, True), ({"include_usage": False}, True),
        ({"include_usage": True}, False),
        ({"include_usage": None, "continuous_usage_stats": True}, True), ("x", False), ([], False),
    ],
)  # fmt: skip
def test_usage_of_a_stream_is_asked_for_when_the_client_did_not(options: Any, ours: bool) -> None:
    body = {"model": "a", "stream": True, "stream_options": options}
    assert parse(body).hides_usage is ours
    if ours:
        told = {"include_usage": True, "continuous_usage_stats": False}
        assert sent(body)["stream_options"] == {**(options or {}), **told}
    else:
        assert sent(body)["stream_options"] == options
    for endpoint in ("responses", "messages", ""):
        assert "stream_options" not in sent(body, endpoint)  # it takes none
    assert "stream_options" not in sent({"model": "a"})


def test_what_is_kept_of_a_body_is_all_of_it_once() -> None:
    body = {"model": "a", "messages": [], "temperature": 0.5, "n": 2, "tools": [1], "user": "u"}
    assert recorded_sampling(body) == {"temperature": 0.5, "n": 2}
    assert recorded_rest(body) == {"tools": [1], "user": "u"}


@pytest.mark.parametrize(
    "name",
    [
        "münchen",
        "東京",
        "क्\u200dष",
        "می\u200cخواهم",
        "👩\u200d👩\u200d👧",
        "a b",
        "O'Brien/7",
        "\u00a0x",
        "x" * 256,
    ],
)
def test_a_name_in_any_language_is_one_name_wherever_it_stands(name: str) -> None:
    for spelt in (name, unicodedata.normalize("NFD", name)):
        headers = {b"x-attune-domain": spelt.encode(), b"x-attune-conversation": spelt.encode()}
        by_header = parse({"model": "auto"}, headers)
        by_body = parse(
            {
                "model": "auto",
                "user": spelt,
                "metadata": {"domain": spelt, "conversation_id": spelt},
            }
        )
        kept = unicodedata.normalize("NFC", name)
        assert (by_header.domain, by_header.conversation_id) == (kept, kept)
        assert (by_body.end_user, by_body.domain, by_body.conversation_id) == (kept, kept, kept)
        assert parse({"model": "auto", "safety_identifier": spelt}).end_user == kept
        assert parse({"model": "auto", "metadata": {"user_id": spelt}}).end_user == kept


@pytest.mark.parametrize(
    "raw", ["münchen".encode("latin-1"), b"\xff\xfe", b"\xe6\x9d", b"\xed\xa0\x80"]
)
@pytest.mark.parametrize("header", ["X-Attune-Domain", "X-Attune-Conversation"])
def test_a_header_that_is_not_utf_8_is_named(header: str, raw: bytes) -> None:
    with pytest.raises(Invalid, match="not UTF-8") as refused:
        parse({"model": "auto"}, {header.lower().encode(): raw})
    assert refused.value.param == header


@pytest.mark.parametrize(
    "bad",
    [
        "\x85",
        "a\x1b[31m",
        "a\u202eb",
        "\u2066x",
        "a\u200f",
        "\u061c",
        "a\u2028b",
        "x" * 257,
        "e\u0301" * 257,
    ],
)
def test_a_name_that_could_deceive_or_break_a_line_is_refused_everywhere(bad: str) -> None:
    for param, body, headers in (
        ("user", {"user": bad}, {}),
        ("metadata.domain", {"metadata": {"domain": bad}}, {}),
        ("X-Attune-Domain", {}, {b"x-attune-domain": bad.encode()}),
    ):
        with pytest.raises(Invalid) as refused:
            parse({"model": "auto", **body}, headers)
        assert refused.value.param == param
        assert "256 characters" in refused.value.message


def test_a_run_of_accents_is_refused_without_being_put_in_order() -> None:
    """Ordering two million of them would take minutes."""
    began = time.perf_counter()
    with pytest.raises(Invalid):
        parse({"model": "auto", "user": "a" + "\u0301\u0316" * 900_000})
    assert time.perf_counter() - began < 2
