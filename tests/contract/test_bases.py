"""A registry's one base model, on both databases."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import sqlalchemy as sa

from adapters.bases import Bases
from adapters.quarantine import quarantine
from adapters.registry import Registry
from adapters.tables import versions
from adapters.types import Adapter, ArtifactInfo
from adapters.validate import BaseModel
from core.database import Database
from core.errors import Conflict, Invalid
from core.identity.tenants import TenantStore
from core.ids import Digest

OLD = BaseModel("/models/old", {}, Digest("a1" * 32))
NEW = BaseModel("/models/new", {}, Digest("b2" * 32))
ACCEPTED = "b2" * 6


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


@pytest.fixture
def bases(database: Database) -> Bases:
    return Bases(database)


def push(registry: Registry, adapter: Adapter, base: BaseModel, *, live: bool = True) -> Adapter:
    """A new version, made for `base`."""
    info = ArtifactInfo(Digest("c" * 64), 10, 8, ("q_proj",), base.digest)
    version = registry.add_version(adapter.id, info, source="upload")
    now = registry.by_id(adapter.id)
    return registry.activate(now, version.number, actor="ann", reason="") if live else now


@pytest.fixture
def adapter(registry: Registry, bases: Bases, database: Database) -> Adapter:
    """With two versions for the old base, the second live."""
    bases.bind(OLD)
    now = registry.create(TenantStore(database).create("acme").id, "support")
    push(registry, now, OLD)
    return push(registry, now, OLD)


def test_another_base_is_refused_with_what_to_do_and_nothing_changes(
    registry: Registry, bases: Bases, adapter: Adapter
) -> None:
    bases.bind(OLD)
    for accepted in ("", "b2", "a1" * 6, "yes", "b2b2b2b2b2b3"):
        with pytest.raises(Invalid) as refused:
            bases.bind(NEW, accepted=accepted)
        for word in ("/models/old", "/models/new", "ATTUNE_HOME", f"ATTUNE_ACCEPT_BASE={ACCEPTED}"):
            assert word in refused.value.message
        assert "\n" not in refused.value.message
    assert registry.by_id(adapter.id) == adapter
    bases.bind(OLD)


def test_a_registry_without_versions_takes_any_base(
    registry: Registry, bases: Bases, database: Database
) -> None:
    for base in (OLD, NEW, OLD):
        bases.bind(base)
    adapter = registry.create(TenantStore(database).create("acme").id, "support")
    push(registry, adapter, OLD)
    with pytest.raises(Invalid):
        bases.bind(NEW)


def test_an_accepted_base_answers_where_a_version_of_another_was_live(
    registry: Registry, bases: Bases, adapter: Adapter
) -> None:
    bases.bind(NEW, accepted=ACCEPTED)
    now = registry.by_id(adapter.id)
    assert (now.live_version, now.generation) == (None, adapter.generation + 1)
    newest = registry.history(adapter.id)[0]
    assert (newest.version, newest.previous, newest.actor) == (None, 2, "server")
    assert "base model changed" in newest.reason
    assert "/models" not in newest.reason  # tenants read it
    assert [one.state for one in registry.versions(adapter.id)] == ["retired", "retired"]
    for number in (1, 2):
        with pytest.raises(Conflict) as refused:
            registry.activate(now, number, actor="ann", reason="", allow_rejected=True)
        assert refused.value.code == "other_base"
    with pytest.raises(Conflict, match="another base model"):
        registry.rollback(now, actor="ann")
    bases.bind(NEW)  # from now on without being told


def test_what_was_made_for_a_base_is_served_again_when_it_comes_back(
    registry: Registry, bases: Bases, adapter: Adapter
) -> None:
    bases.bind(NEW, accepted=ACCEPTED)
    bases.bind(OLD)  # nothing was made for the new one: nothing is lost
    assert registry.rollback(registry.by_id(adapter.id), actor="ann").live_version == 2
    bases.bind(NEW, accepted=ACCEPTED)
    push(registry, adapter, NEW)
    with pytest.raises(Invalid):
        bases.bind(OLD)
    bases.bind(OLD, accepted="a1" * 20)
    now = registry.by_id(adapter.id)
    assert now.live_version is None
    assert registry.activate(now, 1, actor="ann", reason="").live_version == 1


def test_a_server_whose_base_is_another_by_now_adds_no_version(
    registry: Registry, bases: Bases, adapter: Adapter
) -> None:
    bases.bind(NEW, accepted=ACCEPTED)
    with pytest.raises(Conflict, match="another base model") as refused:
        push(registry, adapter, OLD, live=False)
    assert refused.value.code == "other_base"
    assert len(registry.versions(adapter.id)) == 2
    push(registry, adapter, NEW)
    assert registry.versions(adapter.id)[-1].base_digest == NEW.digest


def test_versions_that_do_not_say_are_taken_to_be_for_the_first_base(
    registry: Registry, bases: Bases, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = registry.create(TenantStore(database).create("acme").id, "support")
    push(registry, adapter, replace(OLD, digest=None))
    with caplog.at_level(logging.WARNING, "attune"):
        bases.bind(OLD)
    assert "1 versions did not say" in caplog.text
    assert [one.base_digest for one in registry.versions(adapter.id)] == [OLD.digest]
    with database.write() as connection:  # by a server of the release before, still running
        connection.execute(versions.update().values(base_digest=sa.null()))
    with pytest.raises(Invalid):
        bases.bind(NEW)
    bases.bind(NEW, accepted=ACCEPTED)
    assert [one.base_digest for one in registry.versions(adapter.id)] == [OLD.digest]
    assert registry.by_id(adapter.id).live_version is None


def test_quarantine_falls_back_to_nothing_of_another_base(
    registry: Registry, bases: Bases, adapter: Adapter, database: Database
) -> None:
    bases.bind(NEW, accepted=ACCEPTED)
    with database.write() as connection:  # as if it had gone live right after the old one
        connection.execute(versions.insert().values(**copied(registry, adapter)))
    now = registry.by_id(adapter.id)
    now = registry.activate(now, 9, actor="ann", reason="")
    quarantine(database, adapter.id, 9, "Absurd.")
    assert registry.by_id(adapter.id).live_version is None


def copied(registry: Registry, adapter: Adapter) -> dict[str, object]:
    """The row of a version 9 for the new base."""
    last = registry.versions(adapter.id)[-1]
    row = {name: getattr(last, name) for name in last.__slots__ if name != "engine_id"}
    return {**row, "number": 9, "base_digest": NEW.digest, "state": "candidate"}


def test_work_counts_for_the_base_it_was_done_on_from_its_beginning(
    bases: Bases, adapter: Adapter
) -> None:
    bases.require(OLD, since_s=1.0)
    with pytest.raises(Conflict, match="Restart the trainer") as refused:
        bases.require(NEW, since_s=1.0)
    assert "/models" not in refused.value.message
    bases.bind(NEW, accepted=ACCEPTED)
    with pytest.raises(Conflict, match="changed while"):
        bases.require(NEW, since_s=1.0)
    bases.require(NEW, since_s=1e12)
    with pytest.raises(Conflict, match="Restart the trainer"):
        bases.require(OLD, since_s=1e12)
