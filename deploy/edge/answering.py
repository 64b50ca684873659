"""One thread that answers, in the order of asking, and commits each answer before its end is told.

Owns the queue in front of the model. Must not know HTTP.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from threading import BoundedSemaphore, Event

from core.errors import Unavailable
from deploy.edge.asks import ChatAsk
from deploy.edge.installed import Installation
from deploy.edge.store import Store
from deploy.edge.types import Answered, Speaker

MAX_WAITING = 64


@dataclass(frozen=True, slots=True)
class Begun:
    """The model has taken the request: who answers, under which id."""

    id: str
    created_at_s: float
    model: str


Told = Begun | str
"""What a listener is told: begun, then pieces of text."""


class Answering:
    """The queue of requests and the thread that works it off."""

    def __init__(self, installation: Installation, engine: Speaker, store: Store) -> None:
        self._installation = installation
        self._engine = engine
        self._store = store
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answers")
        self._room = BoundedSemaphore(MAX_WAITING + 1)  # one of them is being answered

    def submit(
        self, ask: ChatAsk, tell: Callable[[Told], None], gone: Event
    ) -> Future[Answered | None]:
        """Queue a request for the answering thread, to be answered as `answer` does.

        Raises Unavailable when too many wait.
        """
        if not self._room.acquire(blocking=False):
            raise Unavailable(
                f"{MAX_WAITING} requests wait already; this device answers one at a time. Try "
                "again later.",
                code="overloaded",
            )
        future = self._thread.submit(self.answer, ask, tell, gone)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self) -> None:
        """Finish the answer under way, drop those that wait."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def answer(self, ask: ChatAsk, tell: Callable[[Told], None], gone: Event) -> Answered | None:
        """The answer once it is committed, its pieces told as they come; setting `gone` stops it.

        None if it was stopped before it had any text. Raises Invalid, NotFound, Conflict or
        Unavailable.
        """
        if gone.is_set():
            return None
        variant = self._installation.find(ask.model)
        generation = self._engine.start(variant, ask.messages, ask.sampling, gone)
        begun = Begun(f"edge-{uuid.uuid4().hex}", time.time(), variant.name)
        tell(begun)
        for piece in generation:
            tell(piece)
        if generation.finish_reason == "cancelled" and not generation.text:
            return None
        sampling = {name: value for name, value in asdict(ask.sampling).items() if name != "stop"}
        answered = Answered(
            id=begun.id,
            created_at_s=begun.created_at_s,
            model_requested=ask.model,
            model_answered=variant.name,
            adapter=variant.adapter,
            version=variant.version,
            export_digest=variant.digest,
            messages=ask.messages,
            answer=generation.text,
            finish_reason=generation.finish_reason,
            user=ask.user,
            domain=ask.domain,
            conversation_id=ask.conversation_id,
            sampling={name: value for name, value in sampling.items() if value is not None},
            prompt_token_ids=tuple(generation.prompt),
            token_ids=tuple(generation.token_ids),
            prompt_tokens=len(generation.prompt),
            completion_tokens=len(generation.token_ids),
            first_token_ms=generation.first_token_ms,
            duration_ms=generation.duration_ms,
        )
        self._store.add_answer(answered)
        return answered
