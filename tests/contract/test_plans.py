"""No call of a store costs more the longer an installation is used, whatever the statistics.

Every public call is made on a database with 100,000 answers and thumbs of one tenant, and what
each of its statements looks at is counted: rows on Postgres, steps of its machine on SQLite.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.grown import Executed, fill, gather, watched

import adapters
import core
import feedback
from adapters.bases import Bases
from adapters.directory import Directory, load_directory, renew_directory
from adapters.exported_bases import ExportedBases
from adapters.load_reports import LoadReports
from adapters.quarantine import quarantine
from adapters.registry import Registry
from adapters.types import ArtifactInfo, Learning
from adapters.validate import BaseModel
from core.database import Database
from core.errors import AttuneError
from core.identity.tenants import TenantStore
from core.ids import AdapterId, CompletionId, Digest, FeedbackId, TenantId
from core.work.ledger import Ledger
from core.work.watermarks import Watermarks
from core.work.workers import Workers
from deploy.export.request import EXPORT
from feedback.history import Wanted
from feedback.interactions import InteractionStore
from feedback.learning.datasets import counts_of, freeze, register
from feedback.learning.due import Known
from feedback.learning.lessons import Lessons
from feedback.learning.looks import Look, Looks
from feedback.putting import Said
from feedback.store import FeedbackStore
from feedback.types import Feedback, Interaction
from trainer.types import RUN, RunFacts

pytestmark = pytest.mark.slow

ACME = TenantId("acme")
BUSY, QUIET = AdapterId("ada_1"), AdapterId("ada_2")

ROWS, STEPS = 9_000, 120_000
"""What one statement may look at; a page of 200 and the last 2,000 answers fit."""

WHOLE = {
    "adapters.bases.Bases.bind": "looks for versions of other bases once, when a server starts",
    "adapters.directory.load_directory": "reads the registry once, when a server starts",
    "core.work.ledger.Ledger.count_by_state": "counts all runs and exports for the gauges",
    "core.identity.tenants.TenantStore.keys": "lists all keys for an operator",
}
"""Calls that are made to read everything, and why they may."""

GUESSED = {
    "core.work.ledger.Ledger.list": "pieces of work are thousands of times fewer than answers",
}
"""Calls for which Postgres, while it has no statistics, may take another of several indexes."""


WANTED = [
    Wanted(adapter_id=BUSY),
    Wanted(adapter_id=QUIET),
    Wanted(outcome="completed"),
    Wanted(outcome="failed"),
    Wanted(endpoint="messages"),
    Wanted(model_answered="none@1"),
    Wanted(end_user="user 7"),
    Wanted(domain="none"),
    Wanted(conversation_id="none"),
    Wanted(since_s=0.0, until_s=1.0),
    Wanted(since_s=50_000.0, until_s=50_001.0, outcome="failed"),
    Wanted(judged=True),
    Wanted(judged=False),
    Wanted(judged=False, until_s=60_000.0),
    Wanted(judged=True, endpoint="messages"),
    Wanted(adapter_id=QUIET, outcome="completed"),
    Wanted(adapter_id=BUSY, endpoint="completions", end_user="none", judged=True),
    Wanted(endpoint="chat.completions", model_answered="m", outcome="completed", judged=False),
]
"""What a list may be asked for: what matches nothing, everything, and one among many."""


def interaction(name: str) -> Interaction:
    return Interaction(
        *(CompletionId(name), ACME, "chat.completions", 1.0, "completed", "m", "m"),
        *(BUSY, None, False, "Where?", ("Here.",), "stop", "ann"),
    )


def thumb(name: str, about: str) -> Feedback:
    return Feedback(FeedbackId(name), ACME, 1.0, CompletionId(about), value=True)


class Calls:
    """Every public call of every store, with arguments for which it has least to do."""

    def __init__(self, database: Database) -> None:
        said, log = FeedbackStore(database), InteractionStore(database)
        runs, exports = Ledger(database, RUN), Ledger(database, EXPORT)
        registry, tenants = Registry(database), TenantStore(database)
        reports, bases = LoadReports(database), ExportedBases(database)
        marks, bases_served, workers = Watermarks(database), Bases(database), Workers(database)
        served = BaseModel("base", {}, digest=Digest("b" * 64))
        info = ArtifactInfo(Digest("d" * 64), 1, 8, ("q_proj",))
        empty = freeze(QUIET, [], [], {}, 0.2)
        lessons = Lessons(database)
        looks, seen = Looks(database), Look(1.0, 1, Known(1, 1, 0, 1, 1.0, 1.0), {}, None)
        missing = FeedbackId("f-none")
        listed = partial(said.list, ACME)
        deep = FeedbackId("f1000")
        self.named: dict[Callable[..., Any], list[Callable[[], object]]] = {
            FeedbackStore.put: [
                lambda: said.put(thumb("f-new", "c7")),
                lambda: said.put(thumb("f-new", "c8")),
                lambda: said.put(thumb("f-early", "c-new")),
            ],
            FeedbackStore.put_all: [
                lambda: said.put_all([Said(thumb(f"f{n}", f"c{n + 1}")) for n in range(1, 64)]),
                lambda: said.put_all([Said(thumb(f"f{n}", f"c{n}")) for n in range(1, 64)]),
                lambda: said.put_all([Said(thumb(f"f-{n}", f"c{n}")) for n in range(64)]),
            ],
            FeedbackStore.get: [lambda: said.get(ACME, FeedbackId("f7"))],
            FeedbackStore.list: [
                lambda: listed(),
                lambda: listed(after=deep),
                lambda: listed(name="none"),
                lambda: listed(kind="comment"),
                lambda: listed(kind="comment", name="thumb"),
                lambda: listed(end_user="none", kind="thumb", name="thumb", adapter_id=BUSY),
                lambda: listed(completion_id=CompletionId("c9"), kind="thumb", after=missing),
                lambda: listed(completion_id=CompletionId("c9"), kind="thumb"),
                lambda: listed(adapter_id=BUSY, after=deep),
                lambda: listed(adapter_id=BUSY, limit=200),
                lambda: listed(adapter_id=QUIET, kind="thumb"),
                lambda: said.list(TenantId("none"), adapter_id=QUIET),
                lambda: said.list(TenantId("idle")),
                lambda: said.list(TenantId("idle"), kind="thumb"),
            ],
            FeedbackStore.about: [
                lambda: said.about(ACME, [CompletionId(f"c{n}") for n in range(200)]),
                lambda: said.about(ACME, [CompletionId("c-new")]),
            ],
            FeedbackStore.delete: [
                lambda: said.delete(ACME, FeedbackId("f-new")),
                lambda: said.delete(ACME, missing),
            ],
            FeedbackStore.said_of: [
                lambda: said.said_of(BUSY, 1_000),
                lambda: said.said_of(QUIET, 1_000_000),
            ],
            FeedbackStore.judged: [lambda: list(said.judged(range(1, 400, 2)))],
            FeedbackStore.news_of: [lambda: said.news_of({BUSY: said.last_seq() - 100, QUIET: 0})],
            FeedbackStore.news: [
                lambda: said.news(BUSY, said.last_seq() - 100),
                lambda: said.news(QUIET, 0),
            ],
            FeedbackStore.count_since: [
                lambda: said.count_since(BUSY, 0),
                lambda: said.count_since(BUSY, said.last_seq() - 10),
                lambda: said.count_since(QUIET, 0),
            ],
            FeedbackStore.last_seq: [said.last_seq],
            Lessons.of: [
                lambda: lessons.of(thumb("f-new", "c7")),
                lambda: lessons.of(replace(thumb("f-new", "c7"), name="none", value=4.0)),
                lambda: lessons.of(replace(thumb("f-new", "c7"), name="thumb", value=4.0)),
            ],
            Looks.ask: [lambda: looks.ask(QUIET), lambda: looks.ask(BUSY)],
            Looks.waiting: [looks.waiting],
            Looks.answer: [lambda: looks.answer(QUIET, 2e10, seen)],
            Looks.of: [lambda: looks.of(QUIET), lambda: looks.of(AdapterId("none"))],
            InteractionStore.append: [lambda: log.append([interaction("c-new")])],
            InteractionStore.stored: [
                lambda: log.stored(ACME, [CompletionId(f"c{n}") for n in range(200)])
            ],
            InteractionStore.fetchable: [lambda: log.fetchable(ACME, CompletionId("c9"))],
            InteractionStore.delete: [
                lambda: log.delete(ACME, CompletionId("c9")),
                lambda: log.delete(ACME, CompletionId("c8")),
            ],
            InteractionStore.list: [
                lambda: log.list(ACME),
                lambda: log.list(ACME, after=CompletionId("c1000")),
                lambda: log.list(ACME, limit=200),
                *(
                    lambda tenant=tenant, wanted=wanted: log.list(TenantId(tenant), wanted)
                    for tenant in ("acme", "idle", "none")
                    for wanted in WANTED
                ),
                lambda: log.list(ACME, Wanted(judged=False), after=CompletionId("c90000")),
            ],
            InteractionStore.get: [
                lambda: log.get(ACME, CompletionId("c9")),
                lambda: log.get(TenantId("idle"), CompletionId("c9")),
            ],
            InteractionStore.recent_adapters: [lambda: log.recent_adapters(limit=8)],
            Ledger.open: [lambda: runs.open(ACME, "ada_2", RunFacts("t", 1, 1.0, None))],
            Ledger.advance: [lambda: runs.advance(self._open_run(runs), "snapshot")],
            Ledger.event: [lambda: runs.event(self._open_run(runs), "message", "m", key="k")],
            Ledger.events: [lambda: runs.events("run_2"), lambda: runs.events("run_2", 10_000)],
            Ledger.cancel: [lambda: runs.cancel(ACME, self._open_run(runs))],
            Ledger.finish: [lambda: runs.finish(self._open_run(runs), "failed")],
            Ledger.get: [lambda: runs.get(ACME, "run_2")],
            Ledger.find: [lambda: runs.find("run_2")],
            Ledger.list: [
                lambda: runs.list(ACME),
                lambda: runs.list(ACME, after="run_1000"),
                lambda: runs.list(ACME, {"adapter_id": QUIET}),
                lambda: exports.list(ACME, {"model": "none@1", "state": "failed"}),
                lambda: exports.list(ACME, {"state": "ready"}),
                lambda: exports.list(ACME, {"layout": "base+adapters"}),
                lambda: exports.list(ACME, {"precision": "int4", "layout": "merged"}),
                lambda: exports.list(ACME, {"request_key": "none", "state": "ready"}),
            ],
            Ledger.active: [runs.active],
            Ledger.count_by_state: [runs.count_by_state],
            Watermarks.of: [lambda: marks.of([BUSY, QUIET])],
            Watermarks.newest_feedback_at_s: [lambda: marks.newest_feedback_at_s("run_2")],
            Workers.looked: [lambda: workers.looked("local")],
            Workers.in_trouble: [lambda: workers.in_trouble("local", "broken")],
            Workers.all: [workers.all],
            Bases.bind: [lambda: bases_served.bind(served)],
            Bases.require: [lambda: bases_served.require(served, since_s=1.0)],
            Registry.create: [lambda: registry.create(ACME, "new")],
            Registry.get: [lambda: registry.get(ACME, "adapter-2")],
            Registry.by_id: [lambda: registry.by_id(QUIET)],
            Registry.names: [lambda: registry.names([BUSY, QUIET])],
            Registry.adapters: [lambda: registry.adapters(ACME)],
            Registry.set_learning: [lambda: registry.set_learning(QUIET, Learning())],
            Registry.add_version: [
                lambda: registry.add_version(QUIET, info, source="upload"),
                lambda: registry.add_version(BUSY, info, source="run", run_id="run_new"),
            ],
            Registry.version: [lambda: registry.version(BUSY, 19_000)],
            Registry.versions: [lambda: registry.versions(QUIET)],
            Registry.reject: [lambda: registry.reject(BUSY, 19_000)],
            Registry.activate: [
                lambda: registry.activate(
                    registry.by_id(QUIET), None, actor="a", reason="", allow_rejected=True
                )
            ],
            Registry.rollback: [lambda: registry.rollback(registry.by_id(QUIET), actor="a")],
            Registry.history: [lambda: registry.history(BUSY)],
            LoadReports.put: [lambda: reports.put("new", 3, "resident")],
            LoadReports.forget: [lambda: reports.forget("server 3")],
            LoadReports.of: [lambda: reports.of([3, 4])],
            ExportedBases.record: [lambda: bases.record("d", "int8", {})],
            ExportedBases.get: [lambda: bases.get("d", "int8")],
            TenantStore.create: [lambda: tenants.create("new")],
            TenantStore.by_name: [lambda: tenants.by_name("acme")],
            TenantStore.all: [tenants.all],
            TenantStore.create_key: [lambda: tenants.create_key(ACME, frozenset(["admin"]))],
            TenantStore.keys: [lambda: tenants.keys(TenantId("none")), tenants.keys],
            TenantStore.revoke_key: [lambda: tenants.revoke_key("k9")],
            TenantStore.bind_device: [
                lambda: tenants.bind_device("k9", "0" * 32),
                lambda: tenants.bind_device("k9", "1" * 32),
            ],
            TenantStore.secret: [lambda: tenants.secret("s")],
            Database.last_change: [database.last_change],
            quarantine: [lambda: quarantine(database, QUIET, 1, "absurd")],
            load_directory: [lambda: load_directory(database)],
            renew_directory: [
                lambda: registry.set_learning(QUIET, Learning()),
                lambda: renew_directory(database, Directory(change=database.last_change() - 1)),
            ],
            register: [lambda: register(database, empty, "blob")],
            counts_of: [lambda: counts_of(database, empty.digest)],
        }

    def _open_run(self, runs: Ledger[RunFacts]) -> str:
        return runs.open(ACME, "ada_2", RunFacts("t", 1, 1.0, None))[0].id


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def grown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database that has been used for long."""
    if request.param == "sqlite":
        path: Path = tmp_path_factory.mktemp("grown") / "grown.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        url, server = f"sqlite:///{path}", None
    else:
        server = Database(request.getfixturevalue("postgres_url"))
        autocommit = server.engine.execution_options(isolation_level="AUTOCOMMIT")
        with autocommit.connect() as connection:
            connection.execute(sa.text("CREATE DATABASE attune_grown"))
        there = sa.make_url(server.url).set(database="attune_grown")
        url = there.render_as_string(hide_password=False)
    database = Database(url)
    database.upgrade()
    fill(database)
    yield database
    database.dispose()
    if server is not None:
        with autocommit.connect() as connection:
            connection.execute(sa.text("DROP DATABASE attune_grown WITH (FORCE)"))
        server.dispose()


@pytest.mark.parametrize("statistics", ["none", "stale", "fresh"])
def test_no_call_looks_at_more_the_longer_it_is_used(grown: Database, statistics: str) -> None:
    gather(grown, statistics)
    most = STEPS if grown.is_sqlite else ROWS
    informed = grown.is_sqlite or statistics == "fresh"
    exempt = WHOLE if informed else {**WHOLE, **GUESSED}
    too_much = []
    for call, ways in Calls(grown).named.items():
        name = f"{call.__module__}.{call.__qualname__}"
        for way in () if name in exempt else ways:
            too_much += [f"{name}: {one}" for one in executed(grown, way) if one.looked_at > most]
    assert not too_much, "\n\n".join(too_much)


def test_a_call_that_reads_everything_would_be_seen(grown: Database) -> None:
    most = STEPS if grown.is_sqlite else ROWS
    unindexed = sa.text("SELECT count(*) FROM feedback WHERE source_kind = 'llm'")
    (one,) = executed(grown, lambda: grown.scalar(unindexed))  # type: ignore[arg-type]
    assert one.looked_at > most
    by_tenant = sa.text(
        "SELECT count(*) FROM feedback f JOIN interactions i ON i.tenant_id = f.tenant_id || '' "
        "WHERE f.seq = 7 AND i.finish_reason = 'none'"
    )
    (joined,) = executed(grown, lambda: grown.scalar(by_tenant))  # type: ignore[arg-type]
    assert joined.looked_at > most


def test_every_call_of_every_store_is_looked_at(grown: Database) -> None:
    made = {f"{call.__module__}.{call.__qualname__}" for call in Calls(grown).named}
    assert public_calls() == made


def executed(database: Database, way: Callable[[], object]) -> list[Executed]:
    # What is not there is looked for all the same.
    with watched(database) as seen, suppress(AttuneError):
        way()
    return [one for one in seen if not one.sql.startswith(("BEGIN", "EXPLAIN"))]


def public_calls() -> set[str]:
    """Methods of whatever is made with a database, and functions that are given one."""
    found = {"core.database.Database.last_change"}
    for package in (core, adapters, feedback):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" in module.name:
                continue
            for name, thing in vars(importlib.import_module(module.name)).items():
                if name.startswith("_") or getattr(thing, "__module__", "") != module.name:
                    continue
                if inspect.isclass(thing) and "database" in parameters(thing.__init__):
                    found |= {
                        f"{module.name}.{method.__qualname__}"
                        for own, method in vars(thing).items()
                        if inspect.isfunction(method) and not own.startswith("_")
                    }
                elif inspect.isfunction(thing) and "database" in parameters(thing):
                    found.add(f"{module.name}.{name}")
    return found - PARTS


def parameters(call: Any) -> set[str]:
    return set(inspect.signature(call).parameters)


PARTS = {
    "core.queries.each",
    "core.page.read_page",
    "feedback.history.read_history",
    "feedback.judged.answers_of",
    "feedback.judged.read_judged",
    "feedback.judged.said_of",
    "feedback.listing.list_feedback",
    "feedback.listing.read_about",
    "feedback.putting.put_all",
}
"""Functions that the stores are made of."""
