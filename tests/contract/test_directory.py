"""The picture of the registry that requests are routed by, on both databases."""

from __future__ import annotations

import threading

import pytest

from adapters.directory import Directory, load_directory
from adapters.registry import Registry
from adapters.routing import route
from adapters.tenants import TenantStore
from adapters.types import ArtifactInfo
from core.database import Database, announce
from core.ids import Digest

INFO = ArtifactInfo(Digest("a" * 64), 10, 8, ("q_proj",), {})


def test_an_empty_database_is_an_empty_picture(database: Database) -> None:
    assert load_directory(database) == Directory()


def test_everything_registered_is_in_the_picture(database: Database) -> None:
    tenants, registry = TenantStore(database), Registry(database)
    tenant = tenants.create("acme")
    key, _ = tenants.create_key(tenant.id, frozenset({"inference"}))
    adapter = registry.create(tenant.id, "support")
    versions = [registry.add_version(adapter.id, INFO, source="upload") for _ in range(2)]
    live = registry.activate(adapter, 2, actor="me", reason="")
    seen = load_directory(database)
    assert seen.tenants == {tenant.id: tenant}
    assert seen.keys == {key.public_id: key}
    assert seen.by_name == {(tenant.id, "support"): live}
    assert seen.by_subject == {(tenant.id, "tenant", None): live}
    assert [v.number for v in seen.versions[adapter.id].values()] == [1, 2]
    assert seen.live() == [registry.version(adapter.id, 2)]
    assert seen.live()[0].engine_id == versions[1].engine_id
    assert seen.change == database.last_change()


def test_the_oldest_adapter_of_a_subject_answers_for_it(database: Database) -> None:
    tenant = TenantStore(database).create("acme").id
    registry = Registry(database)
    for name in ("zeta", "alpha"):
        registry.create(tenant, name)
        registry.create(tenant, f"{name}-law", scope="domain", subject="law")
    seen = load_directory(database)
    assert seen.by_subject[(tenant, "tenant", None)].name == "zeta"
    assert seen.by_subject[(tenant, "domain", "law")].name == "zeta-law"
    found = route(seen, tenant, "auto", domain="law", draw=1.0)
    assert found.adapter is not None
    assert found.adapter.name == "zeta-law"


def test_a_live_pointer_never_lacks_its_version_while_others_write(database_url: str) -> None:
    """Readers and a writer at once: each picture is one moment, never two halves."""
    writer, reader = Database(database_url), Database(database_url)
    tenant = TenantStore(writer).create("acme").id
    registry = Registry(writer)
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(6):
                adapter = registry.create(tenant, f"a{number}")
                version = registry.add_version(adapter.id, INFO, source="upload")
                registry.activate(adapter, version.number, actor="me", reason="")
        finally:
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    changes = []
    while not done.is_set():
        seen = load_directory(reader)
        seen.live()  # KeyError if the pointer were newer than the versions
        changes.append(seen.change)
    thread.join()
    assert changes == sorted(changes)
    assert len(load_directory(reader).live()) == 6
    writer.dispose()
    reader.dispose()


def test_a_change_committed_late_is_still_noticed(
    database_url: str, request: pytest.FixtureRequest
) -> None:
    """Two transactions take change numbers in one order and commit in the other.

    A server that has seen the later number must still see that something changed.
    """
    slow, quick, server = (Database(database_url) for _ in range(3))
    announced, release = threading.Event(), threading.Event()

    def late() -> None:
        with slow.write() as connection:
            announce(connection, "adapters")
            announced.set()
            release.wait(10)

    def early() -> None:
        with quick.write() as connection:
            announce(connection, "adapters")

    first, second = threading.Thread(target=late), threading.Thread(target=early)
    first.start()
    announced.wait(10)
    second.start()
    second.join(0.5)  # commits now, or waits for the slow one: both are right
    seen = server.last_change()
    release.set()
    first.join()
    assert server.last_change() > seen
    second.join()
    for database in (slow, quick, server):
        database.dispose()
