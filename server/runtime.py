"""The parts of a running server, put together once; routes and the gateway share one of these."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from adapters.artifacts.store import ArtifactStore
from adapters.load_reports import LoadReports
from adapters.registry import Registry
from adapters.types import Version
from adapters.validate import BaseModel
from core.clock import now_s
from core.database import Database
from core.errors import AttuneError
from core.identity.tenants import TenantStore
from core.settings import Settings
from core.work.kind import Kind, Place
from core.work.watermarks import Watermarks
from feedback.interactions import InteractionStore
from feedback.log import InteractionLog
from feedback.store import FeedbackStore
from server import metrics
from server.answers.completion_ids import IdSigner
from server.answers.recorder import Recorder
from server.engine.port import EngineAdapters
from server.engine.residency import Residency
from server.engine.slots import Slots
from server.sync.lookups import UnknownNames
from server.sync.prewarm import prewarm
from server.sync.registry_sync import RegistrySync

logger = logging.getLogger("attune.server")


@dataclass(slots=True)
class Runtime:
    """Everything a request may need. Build with `start`; close with `stop`."""

    settings: Settings
    database: Database
    tenants: TenantStore
    registry: Registry
    load_reports: LoadReports
    artifacts: ArtifactStore
    interactions: InteractionStore
    feedback: FeedbackStore
    work: Mapping[str, Kind[Any, Any]]  # by the plural of its noun
    signer: IdSigner
    recorder: Recorder
    log: InteractionLog
    residency: Residency
    sync: RegistrySync
    unknown: UnknownNames
    base: BaseModel
    served_name: str
    max_model_len: int
    first_answers: dict[int, float] = field(default_factory=dict)
    being_answered: int = 0  # requests with the engine, or with an answer on its way out
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def note_answer_by(self, engine_id: int) -> None:
        """The first answer of a new version closes its feedback-to-served measurement."""
        newest_feedback_at_s = self.first_answers.pop(engine_id, None)
        if newest_feedback_at_s is not None:
            metrics.FEEDBACK_TO_SERVED_SECONDS.observe(max(0.0, now_s() - newest_feedback_at_s))

    async def stop(self) -> None:
        """Stop following the registry and commit what is still waiting."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.to_thread(self.recorder.close)
        self.log.close()
        self.sync.close()
        self.database.dispose()


async def start(
    settings: Settings,
    engine: EngineAdapters,
    *,
    base: BaseModel,
    served_name: str,
    max_model_len: int,
    max_loras: int | None = None,
    kinds: Sequence[type[Kind[Any, Any]]] = (),
) -> Runtime:
    """Open the stores, take over the registry, preload live versions traffic suggests.

    `max_loras`: distinct adapters the engine runs in one step, if not what the settings say.
    `kinds`: the work that can be ordered here.
    """
    database = Database(settings.resolved_database_url())
    await asyncio.to_thread(database.upgrade)
    tenants = TenantStore(database)
    registry, reports = Registry(database), LoadReports(database)
    artifacts = ArtifactStore(settings.resolved_artifacts_url(), cache=settings.home / "cache")
    place = Place(settings, database, served_name, base.name)
    secret = settings.request_secret or await asyncio.to_thread(tenants.secret, "request_ids")
    interactions = InteractionStore(database)
    log = InteractionLog(database)
    server_id = settings.server_id or socket.gethostname()[:40]
    await asyncio.to_thread(reports.forget, server_id)
    residency = Residency(
        engine,
        artifacts.check,
        capacity=settings.max_cpu_loras,
        report=_reporter(reports, server_id),
        slots=Slots(max_loras or settings.max_loras, patience_s=settings.slot_patience_s),
    )
    first_answers: dict[int, float] = {}
    sync = RegistrySync(
        database,
        residency,
        interval_s=settings.sync_interval_s,
        publish_interval_s=settings.publish_interval_s,
        on_live=_await_first_answer(Watermarks(database), first_answers),
    )
    runtime = Runtime(
        settings=settings,
        database=database,
        tenants=tenants,
        registry=registry,
        load_reports=reports,
        artifacts=artifacts,
        interactions=interactions,
        feedback=FeedbackStore(database),
        work={kind.spec.plural: kind(place) for kind in kinds},
        signer=IdSigner(secret),
        recorder=Recorder(
            log.append,
            append_at_once=log.append_at_once if database.is_sqlite else None,
            wait_s=settings.commit_wait_s,
        ),
        log=log,
        residency=residency,
        sync=sync,
        unknown=UnknownNames(),
        base=base,
        served_name=served_name,
        max_model_len=max_model_len,
        first_answers=first_answers,
    )
    await sync.start()
    await prewarm(
        residency, sync.directory, interactions, limit=max(1, settings.max_cpu_loras // 2)
    )
    loop = asyncio.get_running_loop()
    runtime.tasks.append(loop.create_task(sync.follow(), name="attune-sync"))
    runtime.tasks.append(loop.create_task(_watch_work(runtime), name="attune-work"))
    return runtime


def _reporter(
    reports: LoadReports, server_id: str
) -> Callable[[Version, AttuneError | None], None]:
    """Writes failed loads, and that they are mended, from a thread; a load that worked at once
    costs no write. A failed report is logged, never raised."""
    failed: set[int] = set()

    def report(version: Version, error: AttuneError | None) -> None:
        if error is not None:
            failed.add(version.engine_id)
        elif version.engine_id in failed:
            failed.discard(version.engine_id)
        else:
            return

        def write() -> None:
            try:
                reports.put(
                    server_id,
                    version.engine_id,
                    "failed" if error else "resident",
                    error.message if error else "",
                )
            except Exception:
                logger.exception("Cannot write a load report.")

        asyncio.get_running_loop().run_in_executor(None, write)

    return report


def _await_first_answer(
    marks: Watermarks, first_answers: dict[int, float]
) -> Callable[[Version], None]:
    """On a new live version from a run: remember when its newest feedback was given."""

    def on_live(version: Version) -> None:
        if version.run_id is None:
            return
        look = partial(marks.newest_feedback_at_s, version.run_id)

        async def remember() -> None:
            at_s = await asyncio.to_thread(look)
            if at_s is not None:
                first_answers[version.engine_id] = at_s

        task = asyncio.get_running_loop().create_task(remember())
        _PENDING.add(task)
        task.add_done_callback(_PENDING.discard)

    return on_live


_PENDING: set[asyncio.Task[None]] = set()


async def _watch_work(runtime: Runtime, interval_s: float = 5.0) -> None:
    """Keep the gauges of every kind of work current: counted in the database."""
    while True:
        try:
            for plural, kind in runtime.work.items():
                counts = await asyncio.to_thread(kind.ledger.count_by_state)
                metrics.count_work(plural, kind.spec.states, counts)
        except Exception:
            logger.exception("Cannot count the work.")
        await asyncio.sleep(interval_s)
