"""From feedback to served: what is learnt has arrived once the version learnt from it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from adapters.types import Version
from core.clock import now_s
from core.errors import AttuneError
from server import metrics
from server.pools import OWN

logger = logging.getLogger("attune.server")


class FirstAnswers:
    """Measures the time to the first answer of each version that a run made.

    `newest_feedback_at_s`: when the newest feedback of a run was given; it runs in a thread.
    """

    def __init__(self, newest_feedback_at_s: Callable[[str], float | None]) -> None:
        self._newest_feedback_at_s = newest_feedback_at_s
        self._awaited: dict[int, str] = {}

    def expect(self, version: Version) -> None:
        """The version has become this server's live one."""
        if version.run_id is not None:
            self._awaited[version.engine_id] = version.run_id

    def given_by(self, version: Version) -> None:
        """The version has answered; costs a look into a dictionary but for the first time."""
        run_id = self._awaited.pop(version.engine_id, None)
        if run_id is not None:
            asyncio.get_running_loop().run_in_executor(OWN, self._observe, run_id, now_s())

    def _observe(self, run_id: str, answered_at_s: float) -> None:
        try:
            feedback_at_s = self._newest_feedback_at_s(run_id)
        except AttuneError:
            logger.exception("Cannot tell how long feedback took to be served.")
            return
        if feedback_at_s is not None:
            metrics.FEEDBACK_TO_SERVED_SECONDS.observe(max(0.0, answered_at_s - feedback_at_s))
