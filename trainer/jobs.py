"""Long work that is carried out durably beside the runs: what the worker must know of it.

The worker remembers which steps are done; everything else about a job belongs to whoever made it.
Must not know what any job does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class DurableJob(Protocol):
    """One kind of work, of which there may be many pieces, each with an id and done one by one.

    A piece is found by `active` until it has ended. Its `steps` are called in order with its id.
    Each may be called again after a crash, also on another machine, so it must find or redo its
    own earlier work; what it leaves behind belongs in the stores.
    """

    @property
    def name(self) -> str:
        """A word, the same for ever: the durable queue goes by it."""
        ...

    @property
    def steps(self) -> Sequence[Callable[[str], None]]:
        """What is done to a piece. An AttuneError ends it; Conflict `cancelled` as cancelled."""
        ...

    def active(self) -> Sequence[str]:
        """The ids of all pieces that have not ended, oldest first. Asked several times a second."""
        ...

    def fail(self, piece_id: str, message: str, *, cancelled: bool) -> None:
        """End a piece that could not be done, or was cancelled; one that has ended stays so."""
        ...

    def tidy(self, piece_id: str) -> None:
        """Drop what an ended piece has left on this machine."""
        ...
