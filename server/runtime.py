"""The parts of a running server, put together once; routes and the door share one of these."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from adapters.artifacts.store import ArtifactStore
from adapters.bases import Bases
from adapters.load_reports import LoadReports
from adapters.registry import Registry
from adapters.types import Version
from adapters.validate import BaseModel
from core.database import Database
from core.errors import AttuneError
from core.identity.tenants import TenantStore
from core.settings import Settings
from core.work.kind import Kind, Place
from core.work.watermarks import Watermarks
from core.work.workers import Workers
from feedback.interactions import InteractionStore
from feedback.learning.lessons import Lessons
from feedback.learning.looks import Looks
from feedback.store import FeedbackStore
from feedback.writer import FeedbackWriter
from server.answers.completion_ids import IdSigner
from server.answers.first_answers import FirstAnswers
from server.answers.recorder import Recorder
from server.answers.responses import StoredResponses
from server.engine.grammars import Grammars
from server.engine.load_reporter import LoadReporter
from server.engine.port import PLAIN, EngineAdapters, EngineTraits
from server.engine.quarantine import Quarantine
from server.engine.residency import Residency
from server.engine.slots import Slots
from server.engine.trial import Absurd
from server.intake import Intake
from server.metrics import keep_current
from server.pools import OWN, run_in
from server.sync.registry_sync import RegistrySync
from server.sync.vitals import Vitals
from server.turns import Turns
from server.under_way import UnderWay

_WAITING_CALLS = 256
_UPLOADS = 2  # of a tenant, from their first byte on
_WAITING_UPLOADS = 16
_DOWNLOADS = 64  # of a tenant: devices have slow lines


class Runtime:
    """Everything a request may need; `start` it before the first, `stop` it after the last.

    `max_loras`: distinct adapters the engine runs in one step, if not what the settings say.
    `kinds`: the work that can be ordered here.
    """

    def __init__(
        self,
        settings: Settings,
        engine: EngineAdapters,
        *,
        base: BaseModel,
        served_name: str,
        max_model_len: int,
        max_loras: int | None = None,
        kinds: Sequence[type[Kind[Any, Any]]] = (),
        traits: EngineTraits = PLAIN,
    ) -> None:
        self.settings = settings
        self.base = base
        self.served_name = served_name
        self.max_model_len = max_model_len
        self.traits = traits
        self.grammars = Grammars(traits.compiler)

        self.engine = engine
        self.under_way = UnderWay()
        self.database = database = Database(
            settings.resolved_database_url(), wait_s=settings.database_wait_s
        )
        # Connections of its own for what no call of a tenant's may keep waiting.
        self.own_database = own = Database(self.database.url, wait_s=settings.database_wait_s)
        self.tenants = TenantStore(database)
        self.registry = Registry(database)
        self.load_reports = LoadReports(database)
        self.artifacts = ArtifactStore(
            settings.resolved_artifacts_url(), cache=settings.home / "cache"
        )
        self.interactions = InteractionStore(database)
        self.feedback = FeedbackStore(database)
        self.looks, self.lessons = Looks(database), Lessons(database)
        place = Place(settings, database, served_name, base.name)
        self.work = {kind.spec.plural: kind(place) for kind in kinds}

        self.vitals = Vitals(Workers(own).all)

        self._server_id = settings.server_id or socket.gethostname()[:40]
        self._report_load = LoadReporter(LoadReports(own), self._server_id)
        self.quarantine = Quarantine(engine, own)
        self.residency = Residency(
            engine,
            self.artifacts.check,
            capacity=settings.max_cpu_loras,
            report=self._report,
            slots=Slots(max_loras or settings.max_loras, patience_s=settings.slot_patience_s),
        )
        self.intake = Intake(
            base,
            max_rank=settings.max_lora_rank,
            limit_s=settings.upload_check_s,
            at_once=settings.upload_checks,
        )
        self.calls = Turns("calls", at_once=settings.tenant_calls, waiting=_WAITING_CALLS)
        self.uploads = Turns("uploads", at_once=_UPLOADS, waiting=_WAITING_UPLOADS)
        self.downloads = Turns("downloads", at_once=_DOWNLOADS, waiting=_WAITING_CALLS)
        self.one_trial = asyncio.Lock()
        self.first_answers = FirstAnswers(Watermarks(own).newest_feedback_at_s)
        self.sync = RegistrySync(
            own,
            self.residency,
            interval_s=settings.sync_interval_s,
            publish_interval_s=settings.publish_interval_s,
            on_live=self.first_answers.expect,
            base_digest=base.digest,
        )

    def _report(self, version: Version, error: AttuneError | None) -> None:
        self._report_load(version, error)
        if isinstance(error, Absurd):
            self.quarantine.put_soon(version, error)

    async def start(self) -> None:
        """Open the database, take over the registry, preload live versions traffic suggests.

        Raises Invalid where the registry's adapters were made for another base model.
        """
        await run_in(OWN, self.database.upgrade)
        if self.base.digest is not None:
            accepted = self.settings.accept_base
            await run_in(OWN, Bases(self.database).bind, self.base, accepted=accepted)
        secret = self.settings.request_secret
        self.signer = IdSigner(secret or await run_in(OWN, self.tenants.secret, "request_ids"))
        self.responses = StoredResponses(self.interactions, self.signer)
        await run_in(OWN, self.load_reports.forget, self._server_id)
        warm = max(1, self.settings.max_cpu_loras // 2)
        recent = await run_in(OWN, self.interactions.recent_adapters, limit=warm)
        await self.sync.start(recent, limit=warm)
        patience_s = self.settings.database_wait_s
        answers, said = InteractionStore(self.own_database), FeedbackStore(self.own_database)
        self.recorder = Recorder(
            answers.append, wait_s=self.settings.commit_wait_s, give_up_s=patience_s
        )
        self.feedback_writer = FeedbackWriter(said.put_all, patience_s=patience_s)
        await self.grammars.start()
        self._tasks = [
            asyncio.create_task(self.sync.follow(), name="attune-sync"),
            asyncio.create_task(self.vitals.follow(), name="attune-vitals"),
            asyncio.create_task(keep_current(self.work.values()), name="attune-gauges"),
        ]

    async def stop(self) -> None:
        """Stop following the registry and commit what is still waiting."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.grammars.stop()
        await run_in(OWN, self.recorder.close)
        await run_in(OWN, self.feedback_writer.close)
        self.database.dispose()
        self.own_database.dispose()
