"""Every item reaches the server once, whatever breaks on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.edge import KEY, Cuts, FakeServer, answered, note

from core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from core.files import locked
from core.ids import AdapterId, CompletionId, TenantId
from deploy.edge.asks import parse_note
from deploy.edge.http import Broken, Patience, Server
from deploy.edge.store import Store
from deploy.edge.sync import Report, sync
from feedback.receivers.device import DeviceReceiver, SyncBody
from feedback.types import Feedback, Interaction


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer().running() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "edge.db")


class Waits:
    """Patience that does not wait but notes for how long it would have."""

    def __init__(self, tries: int = 8) -> None:
        self.seconds: list[float] = []
        self.patience = Patience(tries=tries, sleep=self.seconds.append, say=lambda text: None)


def fill(store: Store, count: int) -> None:
    for number in range(count):
        store.add_answer(answered(number))
        store.put_note(note(number, value=number % 3 == 0))


def send(store: Store, fake: FakeServer, waits: Waits | None = None, key: str = KEY) -> Report:
    report = Report()
    server = Server(fake.url, key, (waits or Waits()).patience)
    sync(store, store._path.parent, server, report)
    return report


def test_everything_is_sent_in_batches_of_a_hundred(store: Store, fake: FakeServer) -> None:
    fill(store, 125)
    report = send(store, fake)
    assert (report.stored, report.left, len(fake.calls)) == (250, 0, 3)
    assert fake.stored[store.device, "interaction", answered(7).id]["answer"] == "answer 7"


def test_every_item_arrives_once_through_twenty_cuts(store: Store, fake: FakeServer) -> None:
    fill(store, 500)
    fake.cuts = Cuts(20)
    report = send(store, fake)
    assert fake.cuts.left == 0
    assert len(fake.times_stored) == 1_000
    assert set(fake.times_stored.values()) == {1}
    assert report.stored + report.already_stored == 1_000
    assert report.already_stored > 0  # some were committed there before the connection broke
    assert report.left == 0


def test_a_second_sync_sends_nothing(store: Store, fake: FakeServer) -> None:
    fill(store, 5)
    send(store, fake)
    assert str(send(store, fake)) == "0 stored, 0 already there, 0 rejected, 0 left"
    assert len(fake.calls) == 1


def test_a_device_that_forgot_what_it_sent_adds_nothing(store: Store, fake: FakeServer) -> None:
    fill(store, 5)
    send(store, fake)
    store._db.execute("UPDATE items SET state = 'waiting'")
    assert send(store, fake).already_stored == 10
    assert set(fake.times_stored.values()) == {1}


def test_a_wrong_key_is_named_and_nothing_is_lost(store: Store, fake: FakeServer) -> None:
    fill(store, 3)
    with pytest.raises(Unauthenticated, match=r"does not know this key.*scope 'edge'"):
        send(store, fake, key="sk-at-wrong")
    assert len(store.waiting(10)) == 6
    assert fake.calls == ["/v1/edge/sync"]


def test_a_key_without_the_scope_is_told_which_it_needs(store: Store, fake: FakeServer) -> None:
    fill(store, 3)
    fake.key_scopes = ("inference",)
    with pytest.raises(Forbidden, match="key with the scope 'edge'"):
        send(store, fake)
    assert len(store.waiting(10)) == 6


def test_rejected_items_are_kept_with_the_reason_and_never_sent_again(
    store: Store, fake: FakeServer
) -> None:
    store.add_answer(answered(1, "gone"))
    store.add_answer(answered(2))
    fake.unknown_adapters = {"gone"}
    report = send(store, fake)
    assert (report.stored, report.rejected, report.left) == (1, 1, 0)
    assert store.rejected() == [("interaction", answered(1).id, "No adapter 'gone'.")]
    send(store, fake)
    assert len(fake.calls) == 1


def test_a_busy_server_is_waited_for_as_long_as_it_asks(store: Store, fake: FakeServer) -> None:
    fill(store, 1)
    fake.refusals = [(429, {"retry-after": "17"}), (503, {}), (500, {})]
    waits = Waits()
    assert send(store, fake, waits).stored == 2
    assert waits.seconds[0] == 17
    assert all(0.25 <= wait <= 2 for wait in waits.seconds[1:])


def test_trying_ends_and_what_is_left_stays(store: Store, fake: FakeServer) -> None:
    fill(store, 1)
    fake.refusals = [(503, {})] * 3
    waits = Waits(tries=3)
    with pytest.raises(Broken, match="busy"):
        send(store, fake, waits)
    assert (len(waits.seconds), len(store.waiting(10))) == (2, 2)


def test_no_server_at_all_is_a_clear_error(store: Store) -> None:
    fill(store, 1)
    with FakeServer().running() as server:
        url = server.url
    with pytest.raises(Broken, match=f"No answer from {url}"):
        send(store, FakeServer(url=url), Waits(tries=2))


def test_a_call_that_is_too_large_is_halved(store: Store, fake: FakeServer) -> None:
    fill(store, 8)
    fake.max_bytes = 2_000
    assert send(store, fake).stored == 16
    assert len(fake.calls) > 4


def test_one_item_too_large_for_the_server_is_put_aside(store: Store, fake: FakeServer) -> None:
    store.add_answer(answered(1))
    fake.max_bytes = 100
    assert send(store, fake).rejected == 1
    assert store.rejected()[0][2] == "Send fewer items."


def test_feedback_changed_after_its_sync_is_sent_again(store: Store, fake: FakeServer) -> None:
    fill(store, 1)
    send(store, fake)
    store.put_note(note(0, value=False, created_at_s=9.0))
    assert send(store, fake).stored == 1
    assert fake.stored[store.device, "feedback", "fb_0"]["value"] is False


def test_a_server_that_answers_something_else_stops_the_sync(
    store: Store, fake: FakeServer
) -> None:
    fill(store, 2)
    fake.sync = lambda body: {"results": [{"seq": 1, "id": "x", "status": "stored"}, {"seq": 99}]}  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="3 of 4 items without an answer"):
        send(store, fake)
    assert len(store.waiting(10)) == 3


def test_two_syncs_of_one_folder_do_not_run_at_once(store: Store, fake: FakeServer) -> None:
    folder = store._path.parent
    other = locked(folder / ".sync.lock", "Held by the test.", code="held")
    with other, pytest.raises(Conflict, match="Another sync"):
        send(store, fake)
    assert send(store, fake).left == 0


def test_what_is_sent_is_what_the_server_takes(store: Store) -> None:
    """The server's own parser reads every kind of item, as JSON brings it."""
    notes = (
        {"value": True},
        {"value": 4.5, "name": "score"},
        {"value": "late", "name": "reason"},
        {"comment": "No."},
        {"correction": "In house 13.", "user": "ann"},
        {"value": -1, "comment": "x", "id": "my-1"},
    )
    store.add_answer(answered(1, "support"))
    store.add_answer(replace(answered(2), finish_reason="cancelled", user="ann", domain="river"))
    for body in notes:
        store.put_note(parse_note({"completion_id": answered(1).id, **body}, now_s=7.0))

    class Known:
        tenant_id = TenantId("t_1")
        now_s = 5_000.0
        key_id = "k"
        own_only = True

        def derived_id(self, *parts: str) -> CompletionId:
            return CompletionId(f"chatcmpl-{parts[-1]}")

        def issued(self, completion_id: str) -> bool:
            return False

        def adapter_id(self, name: str, version: int | None) -> AdapterId:
            return AdapterId(f"{name}@{version}")

        def require_device(self, device: str) -> None:
            assert device == store.device

        def was_given(self, model: str, digest: str) -> bool:
            return (model, digest) in {(one.model_answered, one.export_digest) for one in sent_by}

    sent_by = [answered(1, "support"), answered(2)]
    device = DeviceReceiver()
    call = {"device": store.device, "items": store.waiting(100)}
    sent = SyncBody.model_validate(json.loads(json.dumps(call)))
    read = [device.read(item, sent, Known()) for item in device.items(sent)]
    answers, said = read[:2], read[2:]
    assert [item.outcome for item in answers if isinstance(item, Interaction)] == [
        "completed",
        "cancelled",
    ]
    kinds = [item.kind for item in said if isinstance(item, Feedback)]
    assert kinds == ["thumb", "score", "comment", "comment", "correction", "thumb"]


@pytest.mark.parametrize("url", ["ftp://x", "nothing", "http://", "http://x/?key=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="is not a server's address"):
        Server(url, KEY)


def test_the_key_is_not_taken_along_to_another_address(store: Store, fake: FakeServer) -> None:
    fill(store, 1)
    fake.refusals = [(302, {"location": "http://elsewhere.example/"})]
    with pytest.raises(Invalid, match=r"sends us on to http://elsewhere\.example/"):
        send(store, fake)


def test_a_command_tries_once_and_says_what_the_server_said(fake: FakeServer) -> None:
    fake.refusals = [(503, {}), (404, {})]
    server = Server(fake.url, KEY)
    with pytest.raises(Broken, match="busy"):
        server.get("/v1/exports")
    with pytest.raises(NotFound, match="busy"):
        server.post("/v1/edge/sync", json={})
    assert len(fake.calls) == 2
