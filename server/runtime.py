"""The parts of a running server, put together once; routes and the door share one of these."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from adapters.artifacts.store import ArtifactStore
from adapters.exports import ExportStore
from adapters.load_reports import LoadReports
from adapters.registry import Registry
from adapters.types import Version
from adapters.validate import BaseModel
from core.database import Database
from core.errors import AttuneError
from core.identity.tenants import TenantStore
from core.ids import RunId
from core.settings import Settings
from feedback.interactions import InteractionStore
from feedback.runs import RunStore
from feedback.store import FeedbackStore
from server.answers.completion_ids import IdSigner
from server.answers.first_answers import FirstAnswers
from server.answers.recorder import Recorder
from server.engine.load_reporter import LoadReporter
from server.engine.port import EngineAdapters
from server.engine.quarantine import Quarantine
from server.engine.residency import Residency
from server.engine.slots import Slots
from server.engine.trial import Absurd
from server.gauges import keep_current
from server.sync.lookups import Lookups
from server.sync.prewarm import prewarm
from server.sync.registry_sync import RegistrySync


@dataclass(slots=True)
class Runtime:
    """Everything a request may need. Build with `start`; close with `stop`."""

    settings: Settings
    base: BaseModel
    served_name: str
    max_model_len: int

    database: Database
    tenants: TenantStore
    registry: Registry
    load_reports: LoadReports
    artifacts: ArtifactStore
    interactions: InteractionStore
    feedback: FeedbackStore
    runs: RunStore
    exports: ExportStore

    sync: RegistrySync
    lookups: Lookups
    residency: Residency
    quarantine: Quarantine
    signer: IdSigner
    recorder: Recorder
    first_answers: FirstAnswers
    tasks: tuple[asyncio.Task[None], ...] = ()

    async def stop(self) -> None:
        """Stop following the registry and commit what is still waiting."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.to_thread(self.recorder.close)
        self.database.dispose()


async def start(
    settings: Settings,
    engine: EngineAdapters,
    *,
    base: BaseModel,
    served_name: str,
    max_model_len: int,
    max_loras: int | None = None,
) -> Runtime:
    """Open the stores, take over the registry, preload live versions traffic suggests.

    `max_loras`: distinct adapters the engine runs in one step, if not what the settings say.
    """
    database = Database(settings.resolved_database_url())
    await asyncio.to_thread(database.upgrade)
    tenants, runs, exports = TenantStore(database), RunStore(database), ExportStore(database)
    reports, interactions = LoadReports(database), InteractionStore(database)
    artifacts = ArtifactStore(settings.resolved_artifacts_url(), cache=settings.home / "cache")
    secret = settings.request_secret or await asyncio.to_thread(tenants.secret, "request_ids")
    server_id = settings.server_id or socket.gethostname()[:40]
    await asyncio.to_thread(reports.forget, server_id)
    quarantine, report_load = Quarantine(engine, database), LoadReporter(reports, server_id)

    def report(version: Version, error: AttuneError | None) -> None:
        report_load(version, error)
        if isinstance(error, Absurd):
            quarantine.put_soon(version, error)

    residency = Residency(
        engine,
        artifacts.check,
        capacity=settings.max_cpu_loras,
        report=report,
        slots=Slots(max_loras or settings.max_loras, patience_s=settings.slot_patience_s),
    )

    def newest_feedback_at_s(run_id: RunId) -> float | None:
        return runs.find(run_id).last_feedback_at_s

    first_answers = FirstAnswers(newest_feedback_at_s)
    sync = RegistrySync(
        database,
        residency,
        interval_s=settings.sync_interval_s,
        publish_interval_s=settings.publish_interval_s,
        on_live=first_answers.expect,
    )
    await sync.start()
    warm = max(1, settings.max_cpu_loras // 2)
    await prewarm(residency, sync.directory, interactions, limit=warm)
    loop = asyncio.get_running_loop()
    return Runtime(
        settings=settings,
        base=base,
        served_name=served_name,
        max_model_len=max_model_len,
        database=database,
        tenants=tenants,
        registry=Registry(database),
        load_reports=reports,
        artifacts=artifacts,
        interactions=interactions,
        feedback=FeedbackStore(database),
        runs=runs,
        exports=exports,
        sync=sync,
        lookups=Lookups(sync, served_name=served_name),
        residency=residency,
        quarantine=quarantine,
        signer=IdSigner(secret),
        recorder=Recorder(interactions.append, wait_s=settings.commit_wait_s),
        first_answers=first_answers,
        tasks=(
            loop.create_task(sync.follow(), name="attune-sync"),
            loop.create_task(keep_current(runs, exports), name="attune-gauges"),
        ),
    )
