"""The trainer process: looks for adapters that are due and carries their runs through DBOS, and
whatever other durable jobs it was given, each kind in a queue of its own.

DBOS remembers which steps of a run are done, so a killed worker resumes at the step it died in.
Any number of workers may share one database; each needs its own ATTUNE_WORKER_ID, which it must
keep over restarts to find its own runs again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dbos import DBOS, DBOSConfig, SetWorkflowID

from core.database import Database
from core.errors import AttuneError, Conflict
from core.ids import RunId
from core.settings import Settings
from trainer.heap import trim_heap
from trainer.jobs import DurableJob
from trainer.runs.steps import Steps
from trainer.runs.watch import Watch

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("attune.trainer")

# Workflows outlive releases: a run begun by one release is finished by the next, so the version
# DBOS matches on is the shape of the workflow, not a hash of its source.
_QUEUE = "attune-learn"
_GIVEN_UP = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_WORKFLOW_VERSION = "attune-learn-1"


class Worker:
    """One trainer process. `run` returns when `stop` is true."""

    def __init__(self, settings: Settings, jobs: Sequence[DurableJob] = ()) -> None:
        self._settings = settings
        self._database = Database(settings.resolved_database_url())
        self._database.upgrade()
        self._watch = Watch(self._database)
        self._steps = Steps(settings, self._database, lambda: self.model)
        self._learn = self._workflow()
        self._jobs = [(job, _carry_out(job)) for job in jobs]

    @cached_property
    def model(self) -> WarmModel:
        """The base model, loaded at the first run and kept warm."""
        from trainer.model.warm import WarmModel

        return WarmModel(self._settings.model, threads=self._settings.trainer_threads)

    def run(self, stop: Callable[[], bool]) -> None:
        """Look, start, resume, until told to stop; a failed look is logged and repeated."""
        DBOS(config=self._dbos_config())
        DBOS.launch()
        for queue in (_QUEUE, *(_queue_of(job) for job, _ in self._jobs)):
            DBOS.register_queue(
                queue,
                worker_concurrency=1,
                polling_interval_sec=self._settings.trainer_poll_s,
                on_conflict="always_update",
            )
        self._warm_up()
        logger.info("The trainer is watching for feedback.")
        try:
            while not stop():
                try:
                    self.look()
                except Exception:
                    logger.exception("Looking for work failed; trying again.")
                    time.sleep(1.0)
                time.sleep(self._settings.trainer_poll_s)
        finally:
            DBOS.destroy()
            self._database.dispose()

    def look(self) -> None:
        """Open runs for adapters that are due; hand all that is open to its queue."""
        self._watch.open_due_runs()
        for run in self._steps.runs.active():
            given_up = _hand_over(_QUEUE, self._learn, run.id)
            if given_up is not None and self._steps.runs.find(run.id).is_active:
                self._steps.fail(run.id, f"The run was {given_up}", cancelled=False)
        for job, carry_out in self._jobs:
            for piece_id in job.active():
                given_up = _hand_over(_queue_of(job), carry_out, piece_id)
                if given_up is not None:
                    job.fail(piece_id, f"The work was {given_up}", cancelled=False)
                    job.tidy(piece_id)  # its workflow never came to that

    def _workflow(self) -> Any:
        steps = self._steps
        snapshot, plan, train = _step(steps.snapshot), _step(steps.plan), _step(steps.train)
        evaluate, publish = _step(steps.evaluate), _step(steps.publish)
        fail, tidy = _step(steps.fail), _step(steps.tidy)

        @DBOS.workflow(name="learn", max_recovery_attempts=20)
        def learn(run_id: str) -> str:
            run = RunId(run_id)
            try:
                digest = snapshot(run)
                planned = plan(run, digest)
                judged = []
                for candidate in planned:
                    train(run, digest, candidate)
                for candidate in planned:
                    judged += evaluate(run, digest, candidate)
                verdict = publish(run, digest, judged)
            except AttuneError as error:
                cancelled = isinstance(error, Conflict) and error.code == "cancelled"
                fail(run, error.message, cancelled=cancelled)
                return "cancelled" if cancelled else "failed"
            except Exception as error:
                logger.exception("Run %s failed.", run)
                fail(run, f"{type(error).__name__}: {error}", cancelled=False)
                return "failed"
            finally:
                trim_heap()
            tidy(run)
            return "promoted" if verdict.promoted else "rejected"

        return learn

    def _warm_up(self) -> None:
        """Import the training libraries and load the model before the first run needs them."""
        import trainer.judging.evaluate
        import trainer.methods.loop  # noqa: F401
        from trainer.model.sampling import answers

        answers(self.model, ["."], None, 0.0, 1, 0)

    def _dbos_config(self) -> DBOSConfig:
        url = self._database.url
        if self._database.is_sqlite:
            url = f"sqlite:///{self._settings.home.resolve() / 'dbos.db'}"
        return {
            "name": "attune",
            "system_database_url": url,
            "application_version": _WORKFLOW_VERSION,
            "executor_id": self._settings.worker_id,
            "log_level": "WARNING",
        }


def _queue_of(job: DurableJob) -> str:
    return f"attune-{job.name}"


def _hand_over(queue: str, workflow: Any, workflow_id: str) -> str | None:
    """Queue a workflow DBOS does not know yet; why it will not go on, if it will not."""
    status = DBOS.get_workflow_status(workflow_id)
    if status is None:
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow(queue, workflow, workflow_id)
    elif status.status in _GIVEN_UP:
        return (
            f"given up ({status.status}): its workers died too often, or it was cancelled in "
            "DBOS. See the trainer's log."
        )
    return None


def _carry_out(job: DurableJob) -> Any:
    """The workflow of one kind of work: its steps in order, whatever happens an end, then tidy."""
    steps = [_step(step, job.name) for step in job.steps]
    fail, tidy = _step(job.fail, job.name), _step(job.tidy, job.name)

    @DBOS.workflow(name=job.name, max_recovery_attempts=20)
    def carry_out(piece_id: str) -> str:
        outcome = "done"
        try:
            for step in steps:
                step(piece_id)
        except AttuneError as error:
            cancelled = isinstance(error, Conflict) and error.code == "cancelled"
            fail(piece_id, error.message, cancelled=cancelled)
            outcome = "cancelled" if cancelled else "failed"
        except Exception as error:
            logger.exception("%s %s failed.", job.name, piece_id)
            fail(piece_id, f"{type(error).__name__}: {error}", cancelled=False)
            outcome = "failed"
        tidy(piece_id)
        return outcome

    return carry_out


def _step(method: Callable[P, R], workflow: str = "learn") -> Callable[P, R]:
    """A method as a DBOS step; DBOS marks the function it is given, which a method refuses."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(*args, **kwargs)

    name = str(getattr(method, "__name__", "step"))
    call.__qualname__ = f"{workflow}.{name}"
    # Names must differ between workflows; those of runs begun by an earlier release are kept.
    return DBOS.step(name=name if workflow == "learn" else call.__qualname__)(call)
