"""The picture of the registry that requests are routed by, on both databases."""

from __future__ import annotations

import random
import threading

import pytest

from adapters.directory import Directory, load_directory, renew_directory
from adapters.registry import Registry
from adapters.routing import route
from adapters.types import ArtifactInfo, Learning
from core.database import Database, announce, changes
from core.identity.tenants import TenantStore
from core.ids import Digest

INFO = ArtifactInfo(Digest("a" * 64), 10, 8, ("q_proj",))


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


def test_a_picture_renewed_step_by_step_is_the_picture_read_at_once(database: Database) -> None:
    tenants, registry = TenantStore(database), Registry(database)
    rng = random.Random(0)
    owners = [tenants.create(f"t{number}").id for number in range(3)]
    known = load_directory(database)
    for step in range(80):
        for _ in range(rng.randrange(4)):
            tenant = rng.choice(owners)
            adapters = registry.adapters(tenant)
            what = rng.randrange(7) if adapters else 0
            adapter = rng.choice(adapters) if adapters else None
            if what == 0 or adapter is None:
                registry.create(tenant, f"a{step}-{rng.random()}".replace(".", "-"))
            elif what in (1, 2):
                registry.add_version(adapter.id, INFO, source="upload")
            elif what == 3 and registry.versions(adapter.id):
                number = rng.choice(registry.versions(adapter.id)).number
                registry.activate(adapter, number, actor="me", reason="", allow_rejected=True)
            elif what == 4:
                registry.reject(adapter.id, 1)
            elif what == 5:
                key, _ = tenants.create_key(tenant, frozenset({"inference"}))
                if rng.random() < 0.5:
                    tenants.revoke_key(key.public_id)
            else:
                registry.set_learning(adapter.id, Learning(exploration=0.5))
        known = renew_directory(database, known).directory
        whole = load_directory(database)
        assert known == whole
        assert list(known.by_name) == list(whole.by_name)


def test_only_what_changed_is_read_anew(database: Database) -> None:
    tenant = TenantStore(database).create("acme").id
    registry = Registry(database)
    adapters = [registry.create(tenant, f"a{number}") for number in range(3)]
    known = load_directory(database)
    assert renew_directory(database, known).directory is known
    registry.add_version(adapters[1].id, INFO, source="upload")
    news = renew_directory(database, known)
    assert [adapter.name for adapter in news.adapters] == ["a1"]
    untouched = (tenant, "a0")
    assert news.directory.by_name[untouched] is known.by_name[untouched]


@pytest.mark.parametrize("how", ["an older server's", "of a kind unknown here", "very many"])
def test_changes_that_do_not_say_enough_have_all_read_anew(database: Database, how: str) -> None:
    tenant = TenantStore(database).create("acme").id
    registry = Registry(database)
    adapter = registry.create(tenant, "support")
    known = load_directory(database)
    registry.set_learning(adapter.id, Learning(exploration=0.5))
    with database.write() as connection:
        connection.execute(changes.delete().where(changes.c.id > known.change))
        if how == "very many":
            for _ in range(300):
                announce(connection, "adapters", "ada_other")
        else:
            topic, subject = ("news", "x") if "kind" in how else ("adapters", None)
            connection.execute(changes.insert().values(topic=topic, subject=subject, at_s=0.0))
    assert renew_directory(database, known).directory == load_directory(database)
    assert renew_directory(database, known).directory.by_name[tenant, "support"].learning == (
        Learning(exploration=0.5)
    )


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
            announce(connection, "adapters", "ada_1")
            announced.set()
            release.wait(10)

    def early() -> None:
        with quick.write() as connection:
            announce(connection, "adapters", "ada_1")

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
