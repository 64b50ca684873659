"""Which adapters of this worker process are watched, and what it has to say of them.

Owns the process's one `watch`. Loading decides who is watched, the LoRA wrappers ask at every
step, the API process reads the log. Knows neither vLLM nor torch.
"""

from __future__ import annotations

import os

from server.vllm.bounds.log import PATH_VARIABLE, BoundsLog


class Watch:
    """Engine ids of watched adapters; what happens to them goes into the log, if there is one."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._saturated: set[int] = set()
        self._log: BoundsLog | None = None

    def begin(self, engine_id: int) -> None:
        """Watch this adapter from now on."""
        self._watched.add(engine_id)
        if (log := self._shared_log()) is not None:
            log.note_large(engine_id)

    def watches(self, engine_id: int | None) -> bool:
        """Whether its rows are to be bounded."""
        return engine_id in self._watched

    def saturated(self, engine_id: int | None) -> None:
        """A row of this adapter had to be bounded."""
        if engine_id is None or engine_id in self._saturated:
            return
        self._saturated.add(engine_id)
        if (log := self._shared_log()) is not None:
            log.note_saturated(engine_id)

    def has_saturated(self, engine_id: int) -> bool:
        """Whether that has happened in this process."""
        return engine_id in self._saturated

    def _shared_log(self) -> BoundsLog | None:
        if self._log is None and PATH_VARIABLE in os.environ:
            self._log = BoundsLog()
        return self._log


watch = Watch()
