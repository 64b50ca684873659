"""Tenants, keys and server secrets in both databases."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from core.clock import now_s
from core.database import Database
from core.errors import Conflict, Invalid, NotFound, Unauthenticated
from core.identity.keys import split_key, verify
from core.identity.tenants import TenantStore
from deploy.cli.app import app


@pytest.fixture
def store(database: Database) -> TenantStore:
    return TenantStore(database)


def test_a_tenant_is_found_by_name_and_listed_in_order(store: TenantStore) -> None:
    made = [store.create(name) for name in ("acme", "zeta", "beta")]
    assert store.by_name("zeta") == made[1]
    assert store.all() == made


def test_a_name_is_taken_once_also_by_threads_at_once(store: TenantStore) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def create() -> None:
        start.wait()
        try:
            store.create("acme")
            outcomes.append("made")
        except Conflict:
            outcomes.append("taken")

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", "taken", "taken", "taken"]
    assert len(store.all()) == 1


@pytest.mark.parametrize("name", ["", "A", "a/b", "auto", "../x", "a\x00", "x" * 65])
def test_an_unfit_tenant_name_is_refused(store: TenantStore, name: str) -> None:
    with pytest.raises(Invalid):
        store.create(name)
    assert store.all() == []


def test_an_unknown_tenant_is_named_with_the_command_that_makes_one(store: TenantStore) -> None:
    with pytest.raises(NotFound, match="attune tenants create acme"):
        store.by_name("acme")


def test_a_key_comes_back_from_the_database_able_to_verify(store: TenantStore) -> None:
    tenant = store.create("acme")
    key, text = store.create_key(
        tenant.id, frozenset({"inference", "train"}), label="l" * 300, expires_at_s=now_s() + 60
    )
    assert store.keys(tenant.id) == [key] == store.keys()
    assert verify(store.keys()[0], split_key(text)[1], now_s()) == key
    assert len(key.label) == 128


def test_keys_are_listed_per_tenant(store: TenantStore) -> None:
    ours, theirs = store.create("ours"), store.create("theirs")
    mine, _ = store.create_key(ours.id, frozenset({"inference"}))
    other, _ = store.create_key(theirs.id, frozenset({"admin"}))
    assert store.keys(ours.id) == [mine]
    assert store.keys(theirs.id) == [other]
    assert store.keys() == [mine, other]


def test_a_key_that_is_born_expired_is_refused(store: TenantStore) -> None:
    tenant = store.create("acme")
    with pytest.raises(Invalid):
        store.create_key(tenant.id, frozenset({"inference"}), expires_at_s=now_s() - 1)


def test_a_key_is_revoked_by_its_public_part_or_its_whole_text_once(store: TenantStore) -> None:
    tenant = store.create("acme")
    for whole in (True, False):
        key, text = store.create_key(tenant.id, frozenset({"inference"}))
        first = store.revoke_key(text if whole else key.public_id)
        again = store.revoke_key(key.public_id)
        assert first.revoked_at_s is not None
        assert again == first
        with pytest.raises(Unauthenticated):
            verify(first, split_key(text)[1], now_s())
    with pytest.raises(NotFound):
        store.revoke_key("nobody")


def test_every_change_of_tenants_and_keys_is_announced(
    store: TenantStore, database: Database
) -> None:
    seen = [database.last_change()]
    tenant = store.create("acme")
    seen.append(database.last_change())
    key, _ = store.create_key(tenant.id, frozenset({"inference"}))
    seen.append(database.last_change())
    store.revoke_key(key.public_id)
    seen.append(database.last_change())
    assert seen == sorted(set(seen))
    store.revoke_key(key.public_id)
    assert database.last_change() == seen[-1]


def test_all_replicas_share_one_secret_however_they_race(
    store: TenantStore, database_url: str
) -> None:
    found: list[str] = []
    start = threading.Barrier(4)

    def look() -> None:
        database = Database(database_url)
        start.wait()
        found.append(TenantStore(database).secret("request_ids"))
        database.dispose()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(found[0]) == 64
    assert store.secret("other") != found[0]


def test_a_key_is_the_first_devices_however_they_race(
    store: TenantStore, database_url: str
) -> None:
    key, _ = store.create_key(store.create("acme").id, frozenset({"edge"}))
    before = store.keys()[0]
    assert before.device is None
    told: dict[str, str] = {}
    start = threading.Barrier(4)

    def bind(device: str) -> None:
        database = Database(database_url)
        start.wait()
        told[device] = TenantStore(database).bind_device(key.public_id, device)
        database.dispose()

    threads = [threading.Thread(target=bind, args=(digit * 32,)) for digit in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    (winner,) = set(told.values())
    assert store.keys()[0] == replace(before, device=winner)
    with pytest.raises(NotFound):
        store.bind_device("nobody", "a" * 32)


def test_a_key_is_bound_to_a_device_at_its_birth_only_where_that_means_something(
    store: TenantStore,
) -> None:
    tenant = store.create("acme").id
    key, _ = store.create_key(tenant, frozenset({"edge"}), device="a" * 32)
    assert store.bind_device(key.public_id, "b" * 32) == key.device == "a" * 32
    for scopes in ({"inference"}, {"feedback"}, {"edge", "feedback"}, {"edge", "admin"}):
        with pytest.raises(Invalid, match="edge"):
            store.create_key(tenant, frozenset(scopes), device="a" * 32)  # type: ignore[arg-type]
    for device in ("", "me", "A" * 32, "a" * 31, "a" * 32 + "\n"):
        with pytest.raises(Invalid, match="32"):
            store.create_key(tenant, frozenset({"edge"}), device=device)


def test_the_command_makes_narrow_keys_and_tells_whose_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path))

    def run(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"])
        return json.loads(done.stdout) if done.exit_code == 0 else done.exception

    run("tenants", "create", "acme")
    create = ("keys", "create", "--tenant", "acme")
    assert run(*create)["scopes"] == ["feedback:read", "feedback:write", "inference"]
    assert run(*create, "--scope", "feedback")["scopes"] == ["feedback"]
    device = run(*create, "--scope", "edge", "--device", "a" * 32)
    listed = {key["id"]: key["device"] for key in run("keys", "list")}
    assert listed.pop(device["id"]) == "a" * 32
    assert set(listed.values()) == {None}
    for wrong in (("--scope", "feedback:all"), ("--scope", "edge", "--device", "me")):
        assert isinstance(run(*create, *wrong), Invalid)
