"""The device's HTTP server, over a real socket, with a speaker that needs no model."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from support.edge import make_adapter, make_model
from support.speaker import ScriptedSpeaker, check_speaker

from core.errors import (
    AttuneError,
    Conflict,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from deploy.edge.answering import MAX_WAITING, Answering
from deploy.edge.app import MAX_BODY_BYTES, edge_app
from deploy.edge.asks import parse_note
from deploy.edge.chat import Chat
from deploy.edge.installed import Installation
from deploy.edge.store import Store
from deploy.edge.text import StopScan
from deploy.edge.types import Sampling
from server.errors import error_response

pytestmark = pytest.mark.slow

ASK = {"model": "support", "messages": [{"role": "user", "content": "Where is the otter?"}]}


class Device:
    """A device that serves, with its parts at hand."""

    def __init__(self, folder: Path, speaker: ScriptedSpeaker, key: str | None = None) -> None:
        base = make_model(folder)
        for version in (1, 2):
            make_adapter(folder, f"support@{version}", base)
        self.folder = folder
        self.speaker = speaker
        self.store = Store(folder / "edge.db")
        self.installation = Installation(folder)
        self.answering = Answering(self.installation, speaker, self.store)
        self.app = edge_app(self.installation, self.answering, self.store, key)
        self.url = ""
        self.http = httpx.Client()

    @contextmanager
    def running(self) -> Iterator[Device]:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            config = uvicorn.Config(
                self.app, http="h11", loop="asyncio", ws="none", lifespan="off", log_level="error"
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            try:
                with httpx.Client(base_url=self.url, timeout=30) as self.http:
                    eventually(lambda: server.started)
                    yield self
            finally:
                server.should_exit = True
                thread.join()
                self.answering.close()

    def ask(self, **fields: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json={**ASK, **fields})

    def kept(self) -> list[dict[str, Any]]:
        return self.store.waiting(1_000)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; the test fails after half a minute."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never came to hold"
        threading.Event().wait(0.005)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with Device(tmp_path / "export", ScriptedSpeaker()).running() as running:
        yield running


@pytest.fixture
def paced(tmp_path: Path) -> Iterator[Device]:
    """A device whose speaker says a piece each time `pace` is released."""
    speaker = ScriptedSpeaker(pace=threading.Semaphore(0))
    with Device(tmp_path / "export", speaker).running() as running:
        yield running


def release(device: Device, count: int) -> None:
    assert device.speaker.pace is not None
    device.speaker.pace.release(count)


def test_the_openai_client_reads_answers_streams_and_models(device: Device) -> None:
    client = openai.OpenAI(base_url=f"{device.url}/v1", api_key="any", max_retries=0)
    whole = client.chat.completions.create(**ASK)
    assert whole.model == "support@2"
    assert whole.choices[0].message.content == "In house 12."
    assert whole.usage is not None
    assert whole.usage.total_tokens == 8
    chunks = list(
        client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "In house 12."
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1
    names = [model.id for model in client.models.list()]
    assert names == ["support", "base", "support@2", "support@1"]
    with pytest.raises(openai.NotFoundError, match="Installed: support, base, support@2"):
        client.chat.completions.create(**{**ASK, "model": "nothing"})


@pytest.mark.parametrize(
    ("asked", "answers"),
    [("support", "support@2"), ("support@1", "support@1"), ("base", "base"), ("town", "base")],
)
def test_the_model_field_chooses_who_answers(device: Device, asked: str, answers: str) -> None:
    assert device.ask(model=asked).json()["model"] == answers
    assert device.speaker.asked[-1][0] == answers


def test_an_answer_is_kept_with_everything_the_server_wants_to_know(device: Device) -> None:
    body = device.ask(
        user="ann", seed=3, temperature=0.5, metadata={"domain": "river", "conversation_id": "c1"}
    ).json()
    (kept,) = device.kept()
    digest = Installation(device.folder).find("support@2").digest
    expected = {
        "type": "interaction",
        "id": body["id"],
        "model_requested": "support",
        "model_answered": "support@2",
        "adapter": "support",
        "version": 2,
        "export_digest": digest,
        "messages": ASK["messages"],
        "answer": "In house 12.",
        "finish_reason": "stop",
        "user": "ann",
        "domain": "river",
        "conversation_id": "c1",
        "sampling": {"temperature": 0.5, "seed": 3},
        "prompt_token_ids": [11, 12, 13, 14, 15],
        "token_ids": [100, 101, 102],
        "prompt_tokens": 5,
        "completion_tokens": 3,
    }
    assert {name: kept[name] for name in expected} == expected


def test_a_stream_ends_only_after_its_answer_is_committed(paced: Device) -> None:
    release(paced, 2)
    request = {**ASK, "stream": True}
    with paced.http.stream("POST", "/v1/chat/completions", json=request) as response:
        lines = (line for line in response.iter_lines() if line)
        for _ in range(3):  # the head and two pieces
            next(lines)
        assert paced.kept() == []
        release(paced, 5)
        while '"finish_reason": "stop"' not in next(lines):
            pass
        assert [item["answer"] for item in paced.kept()] == ["In house 12."]
        assert next(lines) == "data: [DONE]"


def test_a_client_that_goes_away_stops_its_answer_and_the_next_is_served(paced: Device) -> None:
    request = {**ASK, "stream": True}
    release(paced, 1)
    with paced.http.stream("POST", "/v1/chat/completions", json=request) as response:
        lines = (line for line in response.iter_lines() if line)
        next(lines)
        next(lines)
    eventually(lambda: paced.http.get("/health").status_code == 200)
    answer: list[httpx.Response] = []
    other = threading.Thread(target=lambda: answer.append(paced.ask(model="base")))
    other.start()

    def freed() -> bool:
        release(paced, 1)
        return bool(answer)

    eventually(freed)
    other.join()
    assert paced.speaker.speeches[0].gone.is_set()
    assert [item["finish_reason"] for item in paced.kept()] == ["cancelled", "stop"]


def test_requests_are_answered_one_at_a_time_in_the_order_of_asking(paced: Device) -> None:
    threads = []
    for number in range(4):
        ask = {"messages": [{"role": "user", "content": str(number)}]}
        threads.append(threading.Thread(target=paced.ask, kwargs=ask))
        threads[-1].start()
        eventually(lambda n=number: paced.answering._room._value == MAX_WAITING - n)  # type: ignore[misc]
    assert len(paced.speaker.asked) == 1
    release(paced, 100)
    for thread in threads:
        thread.join()
    asked = [messages[0]["content"] for _, messages, _ in paced.speaker.asked]
    assert asked == ["0", "1", "2", "3"]


def test_too_many_that_wait_are_told_to_come_later(paced: Device) -> None:
    for _ in range(1 + MAX_WAITING):  # with the one that is answered
        paced.answering._room.acquire()
    refused = paced.ask()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["code"] == "overloaded"


def test_a_thumb_is_kept_before_it_is_confirmed(device: Device) -> None:
    answer_id = device.ask().json()["id"]
    body = {"completion_id": answer_id, "value": "up", "user": "ann", "id": "my-1"}
    first = device.http.post("/v1/feedback", json=body)
    again = device.http.post("/v1/feedback", json={**body, "value": True})
    assert (first.status_code, again.status_code) == (201, 200)
    assert (first.json()["name"], first.json()["value"]) == ("thumb", True)
    changed = device.http.post("/v1/feedback", json={**body, "value": "down"})
    assert changed.status_code == 200
    thumbs = [item for item in device.kept() if item["type"] == "feedback"]
    assert [(item["id"], item["value"]) for item in thumbs] == [("my-1", False)]


def test_feedback_on_an_answer_that_was_not_given_here_is_404(device: Device) -> None:
    reply = device.http.post("/v1/feedback", json={"completion_id": "chatcmpl-1", "value": True})
    assert (reply.status_code, reply.json()["error"]["param"]) == (404, "completion_id")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"value": True}, "completion_id"),
        ({"completion_id": "edge-1"}, "value"),
        ({"completion_id": "edge-1", "value": 5}, "name"),
        ({"completion_id": "edge-1", "value": True, "valu": 1}, "valu"),
        ({"completion_id": "edge-1", "value": True, "tags": {"a": "b"}}, "tags"),
        ({"completion_id": "edge-1", "correction": " "}, "correction"),
        ({"completion_id": "edge-1", "value": True, "id": "a b"}, "id"),
        ({"completion_id": "edge-1", "value": [1]}, "value"),
        ({"completion_id": "edge-1", "value": True, "user": "x" * 300}, "user"),
        ({"completion_id": "edge-1", "value": 10**400, "name": "score"}, "value"),
        ({"completion_id": "edge-1", "value": 1, "name": "x" * 129}, "name"),
    ],
)
def test_feedback_that_says_nothing_clear_is_refused_by_field(
    body: dict[str, Any], param: str
) -> None:
    with pytest.raises(Invalid) as refused:
        parse_note(body, now_s=0.0)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stop": [""]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"model": ""}, "model"),
        ({"user": "a\nb"}, "user"),
        ({"messages": [{"role": "user", "content": "word " * 101}]}, "messages"),
    ],
)
def test_what_cannot_be_done_is_refused_in_openais_form(
    device: Device, fields: dict[str, Any], param: str
) -> None:
    reply = device.ask(**fields)
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.json()["error"]["param"] == param
    assert device.kept() == []


def test_a_prompt_that_is_too_long_has_openais_code(device: Device) -> None:
    reply = device.ask(messages=[{"role": "user", "content": "word " * 101}], stream=True)
    assert reply.status_code == 400  # not a stream that ends at once
    assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_text_parts_are_joined_and_harmless_fields_passed_over(device: Device) -> None:
    parts = [{"type": "text", "text": "Where "}, {"type": "text", "text": "is it?"}]
    reply = device.ask(
        messages=[{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}],
        n=1,
        tools=[],
        presence_penalty=0.0,
        response_format={"type": "text"},
        store=False,
    )
    assert reply.status_code == 200
    assert device.speaker.asked[-1][1] == (
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where is it?"},
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only text parts"),
        ({"stop": [""]}, "up to 16 strings"),
        ({"temperature": 3}, "less than or equal to 2"),
        ({"user": "a\nb"}, "without control"),
        ({"model": ""}, "GET /v1/models lists them"),
    ],
)
def test_a_refusal_says_what_would_be_taken(
    device: Device, fields: dict[str, Any], words: str
) -> None:
    assert words in device.ask(**fields).json()["error"]["message"]


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"model": "\\ud800"}', b'{"a": "\\u0000"}'])
def test_a_body_that_is_no_json_object_is_refused(device: Device, raw: bytes) -> None:
    headers = {"content-type": "application/json"}
    reply = device.http.post("/v1/chat/completions", content=raw, headers=headers)
    assert reply.status_code == 400


def test_a_client_that_leaves_in_the_middle_of_its_request_harms_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = b"POST /v1/feedback HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with Device(tmp_path / "export", ScriptedSpeaker()).running() as device:
        address = ("127.0.0.1", int(device.url.rpartition(":")[2]))
        with socket.create_connection(address) as connection:
            connection.sendall(head + b"content-length: 100\r\n\r\n{")
        assert device.ask().status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_another_sites_page_cannot_ask_or_rate(device: Device) -> None:
    """Browsers send text/plain across sites unasked; and a foreign name may point here."""
    plain = device.http.post("/v1/chat/completions", content=json.dumps(ASK))
    assert (plain.status_code, plain.json()["error"]["param"]) == (400, "content-type")
    foreign = device.http.get("/v1/models", headers={"host": "evil.example:80"})
    assert foreign.status_code == 403


def test_with_a_key_only_its_holder_is_answered_under_any_name(tmp_path: Path) -> None:
    with Device(tmp_path / "export", ScriptedSpeaker(), key="secret").running() as device:
        assert device.http.get("/v1/models").status_code == 401
        wrong = {"authorization": "Bearer wrong"}
        assert device.http.get("/v1/models", headers=wrong).status_code == 401
        right = {"authorization": "Bearer secret", "host": "device.local"}
        assert device.http.get("/v1/models", headers=right).status_code == 200


def test_an_oversized_body_and_an_unknown_path_are_refused(device: Device) -> None:
    content = b" " * (MAX_BODY_BYTES + 1)
    headers = {"content-type": "application/json"}
    reply = device.http.post("/v1/feedback", content=content, headers=headers)
    assert reply.status_code == 413
    assert device.http.get("/v1/nothing").status_code == 404


def test_a_failure_midway_ends_a_stream_with_an_error_and_no_done(tmp_path: Path) -> None:
    with Device(tmp_path / "export", ScriptedSpeaker(fails=True)).running() as device:
        text = device.ask(stream=True).text
        assert "model_failed" in text.splitlines()[-2]
        assert "[DONE]" not in text
        assert device.ask().status_code == 503
        assert device.kept() == []


def test_an_answer_that_cannot_be_kept_is_not_given(device: Device) -> None:
    device.store._db.execute("DROP TABLE items")
    reply = device.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "store_unavailable")
    stream = device.ask(stream=True).text
    assert "store_unavailable" in stream
    assert "[DONE]" not in stream


def test_a_damaged_adapter_is_refused_and_the_others_answer(device: Device) -> None:
    (device.folder / "adapters/support@2/adapter.onnx_adapter").write_bytes(b"damaged")
    pinned = device.ask(model="support@2")
    assert (pinned.status_code, pinned.json()["error"]["code"]) == (409, "adapter_damaged")
    assert pinned.headers["x-should-retry"] == "false"
    assert device.ask(model="support").json()["model"] == "support@1"
    assert device.ask(model="base").status_code == 200


def test_an_adapter_of_another_base_is_not_installed(device: Device, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", content="two")
    make_adapter(device.folder, "billing@1", other)
    assert device.ask(model="billing").status_code == 404
    assert "another base" in Installation(device.folder).problems()["billing@1"]


def test_errors_look_like_the_servers(tmp_path: Path) -> None:
    speaker = ScriptedSpeaker(fails=True)
    with Device(tmp_path / "export", speaker, key="secret").running() as device:
        refused: list[tuple[type[AttuneError], httpx.Response]] = [(Unauthenticated, device.ask())]
        device.http.headers["authorization"] = "Bearer secret"
        (device.folder / "adapters/support@2/adapter.onnx_adapter").write_bytes(b"damaged")
        refused += [
            (Invalid, device.ask(messages=[])),
            (NotFound, device.ask(model="nothing")),
            (Conflict, device.ask(model="support@2")),
            (TooLarge, device.http.post("/v1/feedback", json="x" * MAX_BODY_BYTES)),
            (Unavailable, device.ask(model="base")),
        ]
    for kind, reply in refused:
        said = reply.json()["error"]
        error = kind(said["message"], param=said["param"], code=said["code"])
        theirs = error_response(error)
        assert (reply.status_code, reply.json()) == (theirs.status_code, json.loads(theirs.body))
        told = {name: value for name, value in theirs.headers.items() if name != "content-length"}
        assert {name: reply.headers[name] for name in told} == told


@pytest.mark.parametrize(
    ("stops", "pieces", "said"),
    [
        ((), ["a", "b"], ["a", "b"]),
        (("END",), ["on", "e E", "ND two"], ["on", "e ", ""]),
        (("END",), ["E", "N", "x"], ["", "", "ENx"]),
        (("ab", "b"), ["xab"], ["x"]),
        (("\n\n",), ["a\n", "b\n"], ["a", "\nb", "\n"]),
    ],
)
def test_no_part_of_a_stop_string_is_told(
    stops: tuple[str, ...], pieces: list[str], said: list[str]
) -> None:
    scan = StopScan(stops)
    told = [scan.push(piece) for piece in pieces]
    rest = scan.flush()
    assert told + ([rest] if rest else []) == said


def test_a_chat_keeps_answers_and_the_last_word_on_each(device: Device) -> None:
    written: list[str] = []
    chat = Chat(
        device.installation, device.answering, device.store, "support", Sampling(), written.append
    )
    chat.run(["/down", "Where?", "/up", "/down", "/fix In house 13.", "And now?", "/new", "/up"])
    kept = device.kept()
    answers = [item for item in kept if item["type"] == "interaction"]
    notes = {item["name"]: item for item in kept if item["type"] == "feedback"}
    assert [len(item["messages"]) for item in answers] == [1, 3]
    assert notes["thumb"]["value"] is False
    assert notes["correction"]["correction"] == "In house 13."
    assert notes["thumb"]["completion_id"] == answers[0]["id"]
    text = "".join(written)
    assert text.startswith("support@2.")
    assert text.count("There is no answer yet.") == 2


def test_an_interrupted_answer_is_kept_as_far_as_it_was_told(device: Device) -> None:
    """Ctrl-C arrives while the second piece is written."""

    def write(text: str) -> None:
        if text == "house ":
            signal.raise_signal(signal.SIGINT)

    chat = Chat(device.installation, device.answering, device.store, "support", Sampling(), write)
    chat.run(["Where?", "/down"])
    answer, thumb = device.kept()
    assert (answer["answer"], answer["finish_reason"]) == ("In house ", "cancelled")
    assert thumb["completion_id"] == answer["id"]


def test_the_scripted_speaker_keeps_the_promises_of_a_speaker(device: Device) -> None:
    check_speaker(ScriptedSpeaker(), device.installation.own())
