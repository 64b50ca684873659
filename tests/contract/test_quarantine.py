"""Quarantine on both databases: the pointer moves to what may be served, the reason is kept."""

from __future__ import annotations

import pytest

from adapters.quarantine import quarantine
from adapters.registry import Registry
from adapters.types import Adapter, ArtifactInfo
from core.database import Database
from core.errors import Conflict
from core.identity.tenants import TenantStore
from core.ids import Digest

INFO = ArtifactInfo(Digest("a" * 64), 10, 8, ("q_proj",))


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


@pytest.fixture
def adapter(registry: Registry, database: Database) -> Adapter:
    """With three versions, made live one after the other."""
    now = registry.create(TenantStore(database).create("acme").id, "support")
    for number in (1, 2, 3):
        registry.add_version(now.id, INFO, source="upload")
        now = registry.activate(now, number, actor="ann", reason="")
    return now


def states(registry: Registry, adapter: Adapter) -> list[str]:
    return [version.state for version in registry.versions(adapter.id)]


def test_the_version_before_answers_again_and_history_says_why(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    quarantine(database, adapter.id, 3, "Absurd.")
    assert states(registry, adapter) == ["retired", "live", "quarantined"]
    assert registry.by_id(adapter.id).live_version == 2
    newest = registry.history(adapter.id)[0]
    assert (newest.version, newest.previous, newest.actor) == (2, 3, "server")
    assert newest.reason == "quarantined: version 3. Absurd."


def test_what_is_not_to_be_served_either_is_passed_over(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    quarantine(database, adapter.id, 2, "Absurd.")
    quarantine(database, adapter.id, 3, "Absurd.")
    assert registry.by_id(adapter.id).live_version == 1
    quarantine(database, adapter.id, 1, "Absurd.")
    assert registry.by_id(adapter.id).live_version is None
    assert states(registry, adapter) == ["quarantined"] * 3


def test_one_that_is_not_live_leaves_the_pointer_and_its_reason(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    quarantine(database, adapter.id, 1, "Absurd.")
    assert states(registry, adapter) == ["quarantined", "retired", "live"]
    newest = registry.history(adapter.id)[0]
    assert (newest.version, newest.previous) == (3, 3)
    assert "version 1" in newest.reason
    assert registry.rollback(registry.by_id(adapter.id), actor="ann").live_version == 2


def test_a_second_server_that_finds_the_same_adds_nothing(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    quarantine(database, adapter.id, 3, "Absurd.")
    before = database.last_change()
    quarantine(database, adapter.id, 3, "Absurd.")
    quarantine(database, adapter.id, 99, "No such version.")
    assert database.last_change() == before


def test_it_goes_live_again_by_force_only(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    quarantine(database, adapter.id, 3, "Absurd.")
    now = registry.by_id(adapter.id)
    with pytest.raises(Conflict, match="quarantined"):
        registry.rollback(now, actor="ann")
    with pytest.raises(Conflict, match="force"):
        registry.activate(now, 3, actor="ann", reason="")
    after = registry.activate(now, 3, actor="ann", reason="", allow_rejected=True)
    assert after.live_version == 3
    assert registry.version(adapter.id, 3).state == "live"
