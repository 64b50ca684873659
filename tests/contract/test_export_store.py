"""What the store of exports promises, on either database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.exports import ExportFile, ExportFilter, ExportRequest, ExportStore
from adapters.registry import Registry
from core.database import Database
from core.errors import Conflict, Invalid, NotFound
from core.identity.tenants import TenantStore
from core.ids import TenantId

FILES = (ExportFile("model/model.onnx", "a" * 64, 2**40),)
OTHER = TenantId("other")


@pytest.fixture
def store(database: Database) -> ExportStore:
    return ExportStore(database)


@pytest.fixture
def request_(database: Database) -> ExportRequest:
    tenant = TenantStore(database).create("acme")
    adapter = Registry(database).create(tenant.id, "support")
    return ExportRequest(tenant.id, "support@3", adapter.id, 3, "merged", "int8", "/models/one")


def test_what_is_asked_for_twice_is_queued_once(
    store: ExportStore, request_: ExportRequest
) -> None:
    first, is_new = store.open(request_)
    again, is_new_too = store.open(request_)
    assert (is_new, is_new_too) == (True, False)
    assert first == again
    assert (first.state, first.progress, first.files) == ("queued", 0.0, ())
    for other in (
        replace(request_, version=4, model="support@4"),
        replace(request_, layout="base+adapters"),
        replace(request_, precision="int4"),
        replace(request_, base="/models/two"),
        replace(request_, model="base", adapter_id=None, version=None),
    ):
        assert store.open(other)[1]
    assert len(store.active()) == 6


def test_an_export_moves_forward_only(store: ExportStore, request_: ExportRequest) -> None:
    export, _ = store.open(request_)
    store.advance(export.id, "verifying", 0.8, "Comparing.")
    seen = store.advance(export.id, "building", 0.2, "Building again after a crash.")
    assert (seen.state, seen.progress) == ("verifying", 0.8)
    assert seen.message == "Building again after a crash."


def test_a_finished_export_is_found_again(store: ExportStore, request_: ExportRequest) -> None:
    assert store.ready(request_) is None
    export, _ = store.open(request_)
    for _ in range(2):  # a repeated step
        done = store.finish(
            export.id, manifest={"format": 1}, adapter_manifest={"rank": 4}, files=FILES
        )
    assert (done.state, done.progress, done.files) == ("ready", 1.0, FILES)
    assert (done.manifest, done.adapter_manifest) == ({"format": 1}, {"rank": 4})
    assert done.finished_at_s is not None
    assert store.ready(request_) == done
    assert store.ready(replace(request_, precision="fp32")) is None
    assert store.active() == []
    with pytest.raises(Conflict):
        store.advance(export.id, "building", 0.5, "")
    with pytest.raises(Conflict):
        store.request_cancel(request_.tenant_id, export.id)


def test_a_failed_export_keeps_its_reason_and_makes_room(
    store: ExportStore, request_: ExportRequest
) -> None:
    export, _ = store.open(request_)
    store.fail(export.id, "argmax agreement 0.81, needed 0.97 \0\ud83d")
    failed = store.fail(export.id, "argmax agreement 0.81, needed 0.97")
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.startswith("argmax agreement 0.81, needed 0.97")
    assert store.ready(request_) is None
    again, is_new = store.open(request_)
    assert is_new
    assert again.id != export.id


def test_a_queued_export_is_cancelled_at_once(store: ExportStore, request_: ExportRequest) -> None:
    export, _ = store.open(request_)
    assert store.request_cancel(request_.tenant_id, export.id).state == "cancelled"
    assert store.request_cancel(request_.tenant_id, export.id).state == "cancelled"
    assert store.active() == []
    with pytest.raises(Conflict) as refused:
        store.advance(export.id, "building", 0.1, "")
    assert refused.value.code == "cancelled"


def test_an_export_under_way_stops_at_its_next_word(
    store: ExportStore, request_: ExportRequest
) -> None:
    export, _ = store.open(request_)
    store.advance(export.id, "building", 0.1, "Building.")
    assert store.request_cancel(request_.tenant_id, export.id).state == "building"
    with pytest.raises(Conflict) as refused:
        store.advance(export.id, "verifying", 0.5, "")
    assert refused.value.code == "cancelled"
    assert store.fail(export.id, "The export was cancelled.", cancelled=True).state == "cancelled"


def test_what_belongs_to_another_tenant_does_not_exist(
    store: ExportStore, request_: ExportRequest
) -> None:
    export, _ = store.open(request_)
    messages = set()
    for attempt in (
        lambda: store.get(OTHER, export.id),
        lambda: store.request_cancel(OTHER, export.id),
        lambda: store.list(OTHER, after=export.id),
    ):
        with pytest.raises(NotFound) as refused:
            attempt()
        messages.add(refused.value.message)
    with pytest.raises(NotFound) as refused:
        store.get(OTHER, "exp_nothing")
    assert refused.value.message.replace("exp_nothing", export.id) in messages
    assert store.list(OTHER) == ((), False)


def test_exports_are_listed_newest_first_and_filtered(
    store: ExportStore, request_: ExportRequest
) -> None:
    made = [
        store.open(replace(request_, version=n, model=f"support@{n}"))[0].id for n in range(1, 6)
    ]
    store.fail(made[0], "x")
    tenant = request_.tenant_id
    first, more = store.list(tenant, limit=3)
    rest, none = store.list(tenant, limit=3, after=first[-1].id)
    assert [export.id for export in first + rest] == made[::-1]
    assert (more, none) == (True, False)

    def found(**where: str) -> list[str]:
        return [export.id for export in store.list(tenant, ExportFilter(**where))[0]]  # type: ignore[arg-type]

    assert found(model="support@2") == [made[1]]
    assert found(model="support") == made[::-1]
    assert found(model="suppor_") == found(model="sup") == []
    assert found(state="failed") == [made[0]]
    assert found(layout="base+adapters") == []
    assert found(precision="int8", layout="merged") == made[::-1]
    assert store.count_by_state() == {"queued": 4, "failed": 1}
    with pytest.raises(Invalid):
        store.list(tenant, limit=0)


def test_an_exported_base_is_remembered_by_digest_and_precision(store: ExportStore) -> None:
    assert store.base("b" * 64, "int4") is None
    store.record_base("b" * 64, "int4", {"format": 1})
    store.record_base("b" * 64, "int4", {"format": 1, "created_at": "later"})
    assert store.base("b" * 64, "int4") == {"format": 1, "created_at": "later"}
    assert store.base("b" * 64, "int8") is None
