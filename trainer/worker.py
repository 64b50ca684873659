"""The trainer process: looks for work of every kind it was given and carries it out through DBOS,
each kind in a queue of its own.

DBOS remembers which steps of a piece are done, so a killed worker resumes at the step it died in.
Any number of workers may share one database; each needs its own ATTUNE_WORKER_ID, which it must
keep over restarts to find its own work again. Must not know what any kind does.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from dbos import DBOS, DBOSConfig, SetWorkflowID

import feedback.types
import trainer.types
from adapters.bases import Bases, identify
from core.database import Database
from core.database_trouble import DATABASE_UNAVAILABLE, speaks_sql
from core.errors import AttuneError, Conflict, Unavailable
from core.places import reason_of
from core.settings import Settings
from core.work.kind import Kind, Place
from core.work.workers import Workers
from trainer.heart import Heart

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("attune.trainer")

# Workflows outlive releases: work begun by one release is finished by the next, so the version
# DBOS matches on is the shape of the workflows, not a hash of their source.
_WORKFLOW_VERSION = "attune-learn-1"
# DBOS keeps what a step returned as a pickle, which names classes by module. A run begun before
# they moved must be read by them; this may go once no such run can be under way.
_FORMER_MODULES = {"trainer.plan": "trainer.runs.plan", "trainer.steps": "trainer.runs.steps"}
_FORMERLY_FEEDBACK = ("Check", "Verdict")
_PATIENCE_S = 60.0
"""Nobody waits for an answer of the trainer's, and its statements read much."""
_GIVEN_UP = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


class Worker:
    """One trainer process. `run` returns when `stop` is true."""

    def __init__(self, settings: Settings, kinds: Sequence[type[Kind[Any, Any]]]) -> None:
        self._settings = settings
        self._database = Database(
            settings.resolved_database_url(), wait_s=max(_PATIENCE_S, settings.database_wait_s)
        )
        self._database.upgrade()
        self._heart = Heart(
            Workers(self._database), settings.worker_id, durable=self._durable_file()
        )
        place = Place(settings, self._database, settings.served_name, settings.model)
        self._runners = [_Runner(kind(place)) for kind in kinds]

    def run(self, stop: Callable[[], bool], begin: Callable[[], None] = lambda: None) -> None:
        """Look, start, resume, until told to stop; a failed look is logged and repeated.

        `begin` is called before anything is carried out. Raises Invalid where adapters were made
        for another base model than this one's.
        """
        with self._heart.telling():
            self._run(stop, begin)

    def _run(self, stop: Callable[[], bool], begin: Callable[[], None]) -> None:
        _answer_to_former_names()
        # Before the launch, which goes on with work under way in threads of its own: two threads
        # that import Transformers at once find it half there.
        for runner in self._runners:
            runner.kind.prepare()
        base = identify(self._settings.model, self._settings.home)  # loaded: it is here by now
        Bases(self._database).bind(base, accepted=self._settings.accept_base)
        begin()
        DBOS(config=self._dbos_config())
        DBOS.launch()
        for runner in self._runners:
            runner.register(self._settings.trainer_poll_s)
        logger.info("The trainer is watching for work.")
        try:
            while not stop():
                try:
                    for runner in self._runners:
                        runner.look()
                    self._heart.beat()
                except Exception as error:
                    logger.exception("Looking for work failed; trying again.")
                    self._heart.miss(error)
                    time.sleep(1.0)
                time.sleep(self._settings.trainer_poll_s)
        finally:
            DBOS.destroy()
            self._database.dispose()

    def _durable_file(self) -> Path | None:
        """DBOS's own database, where it is a file."""
        home = self._settings.home.resolve()
        return home / "dbos.db" if self._database.is_sqlite else None

    def _dbos_config(self) -> DBOSConfig:
        file = self._durable_file()
        url = f"sqlite:///{file}" if file else self._database.url
        return {
            "name": "attune",
            "system_database_url": url,
            "application_version": _WORKFLOW_VERSION,
            "executor_id": self._settings.worker_id,
            "log_level": "WARNING",
        }


class _Runner:
    """Carries out the pieces of one kind, one at a time."""

    def __init__(self, kind: Kind[Any, Any]) -> None:
        self.kind = kind
        self._queue = f"attune-{kind.spec.name}"
        self._workflow = self._durable_workflow()

    def register(self, poll_s: float) -> None:
        """Make the queue known, once DBOS is up."""
        DBOS.register_queue(
            self._queue,
            worker_concurrency=1,
            polling_interval_sec=poll_s,
            on_conflict="always_update",
        )

    def look(self) -> None:
        """Let the kind open what is due; hand all that is open to the queue."""
        self.kind.look()
        for work in self.kind.ledger.active():
            status = DBOS.get_workflow_status(work.id)
            if status is None:
                with SetWorkflowID(work.id):
                    DBOS.enqueue_workflow(self._queue, self._workflow, work.id)
            elif status.status in _GIVEN_UP:
                reason = (
                    f"The {self.kind.spec.noun} was given up ({status.status}): its workers "
                    "died too often, or it was cancelled in DBOS. See the trainer's log."
                )
                self._fail(work.id, reason, cancelled=False)
                self._tidy(work.id)  # its workflow never came to that

    def _durable_workflow(self) -> Any:
        """The kind's workflow; whatever happens the piece ends, and what it left is removed."""
        noun = self.kind.spec.noun.capitalize()
        durable = partial(_step, self.kind.step_prefix)
        carry_out = self.kind.workflow(durable)
        fail, tidy = durable(self._fail, "fail"), durable(self._tidy, "tidy")

        @DBOS.workflow(name=self.kind.spec.name, max_recovery_attempts=20)
        def workflow(work_id: str) -> str:
            outcome = "done"
            try:
                carry_out(work_id)
            except AttuneError as error:
                cancelled = isinstance(error, Conflict) and error.code == "cancelled"
                fail(work_id, error.message, cancelled=cancelled)
                outcome = "cancelled" if cancelled else "failed"
                logger.info("%s %s %s: %s", noun, work_id, outcome, error.message)
            except Exception as error:
                logger.exception("%s %s failed.", noun, work_id)
                fail(work_id, _reason(error), cancelled=False)
                outcome = "failed"
            finally:
                trim_heap()
            tidy(work_id)
            return outcome

        return workflow

    def _fail(self, work_id: str, message: str, *, cancelled: bool) -> None:
        """End a piece that could not be done, or was cancelled; one that has ended stays so."""
        ledger = self.kind.ledger
        ledger.event(work_id, "message", message, key="failed")
        state, told = ("cancelled", "Cancelled.") if cancelled else ("failed", "Failed.")
        with suppress(Conflict):
            ledger.finish(work_id, state, message=told, error=message)

    def _tidy(self, work_id: str) -> None:
        """Drop what an ended piece has left on this machine; what counts is in the stores."""
        shutil.rmtree(self.kind.folder(work_id), ignore_errors=True)


def _step(prefix: str, method: Callable[P, R], name: str = "") -> Callable[P, R]:
    """A method as a DBOS step; DBOS marks the function it is given, which a method refuses."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(*args, **kwargs)

    # Work begun by an earlier release finds its steps by these names.
    call.__qualname__ = prefix + (name or str(getattr(method, "__name__", "step")))
    # A database that is back within a minute or two costs a run nothing but the time.
    retried = {"retries_allowed": True, "max_attempts": 10, "should_retry": _awaits_database}
    return DBOS.step(name=call.__qualname__, backoff_rate=1.5, **retried)(call)


def _reason(error: Exception) -> str:
    """For whoever ordered the work; what a database says is for the log alone."""
    if speaks_sql(error):
        return f"An error of the database's ({type(error).__name__}): see the trainer's log."
    return f"{type(error).__name__}: {reason_of(error)}"


def _awaits_database(error: BaseException) -> bool:
    return isinstance(error, Unavailable) and error.code == DATABASE_UNAVAILABLE


def _answer_to_former_names() -> None:
    """Let pickles find moved classes where they were."""
    for former, present in _FORMER_MODULES.items():
        sys.modules[former] = import_module(present)
    for name in _FORMERLY_FEEDBACK:
        setattr(feedback.types, name, getattr(trainer.types, name))


def trim_heap() -> None:
    """Hand what is freed back to the system.

    glibc keeps it for later; but a trainer idles most of its time, beside a server that needs the
    memory, and each run would leave the heap a little more fragmented. Does nothing more than
    collect garbage under another C library.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
