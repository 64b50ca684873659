"""Stage: watches one answer on its way out and sees it committed before its last bytes leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from starlette.types import Message

from core.errors import AttuneError, ShuttingDown
from feedback.types import Interaction, Outcome
from server.answers.prompts import recorded_prompt
from server.answers.readers.transcript import Transcript
from server.answers.served import COLLECTING, collected_for
from server.answers.transcript import ENDS, read
from server.answers.unasked import as_unasked
from server.door.call import COUNTING, Call, Onward
from server.door.requests import kept_document, recorded_rest, recorded_sampling
from server.engine.trial import Absurd
from server.errors import error_event, error_response


async def record(call: Call, onward: Onward) -> None:
    """Have the answer recorded; one whose client goes away as `cancelled`, one that the server has
    no time to finish as `failed`."""
    if call.endpoint == COUNTING:
        await onward(call)
        return
    tap = Tap(call)
    call.send = tap.send
    collecting = COLLECTING.set(tap.collected)
    try:
        await onward(call)
    except asyncio.CancelledError:
        if (error := call.stay.why_cancelled()) is None:
            raise
        await tap.cut_short(error)
    finally:
        COLLECTING.reset(collecting)
        tap.end()


class Tap:
    """Stands between vLLM and the client for one answer.

    A streamed answer flows through chunk by chunk; the chunk that ends it waits for the commit.
    An answer in one piece waits as a whole. Error responses pass and are not interactions. One
    whose adapter has left its bounds, or for which the server has no time left, ends with an error
    and is recorded as `failed`.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._send = call.send
        keeps = call.runtime.settings.keep_tokens
        self.collected = collected_for(call.endpoint, call.asked.body) if keeps else None
        self._first: float | None = None
        self._chunks: list[bytes] = []
        self._start: Message | None = None
        self._streams = False
        self._settled = False  # recorded, or an error response, which is not

    async def send(self, message: Message) -> None:
        """The `send` vLLM's app is given."""
        if message["type"] == "http.response.start":
            await self._on_start(message)
        elif self._settled:
            await self._send(message)
        elif self._streams:
            await self._on_chunk(message)
        else:
            await self._on_body(message)

    def end(self) -> None:
        """The app has returned: what was not recorded by now was cut off by the client."""
        if not self._settled:
            self._settled = True
            self._call.runtime.recorder.submit(self._builder("cancelled"))
            if self._call.route.version is not None:
                self._call.runtime.quarantine.check_soon(
                    self._call.engine_model, self._call.route.version
                )

    async def cut_short(self, error: ShuttingDown) -> None:
        """End an answer that may take no longer: the part of it there is is recorded, and a stream
        ends with an error event. Raises `error` where nothing has been sent yet."""
        if self._settled:
            raise error  # all that was left was to hand it out
        self._settle()
        with suppress(AttuneError):  # without a database its client is told all the same
            await self._call.runtime.recorder.commit(self._builder("failed", error))
        if not self._streams:
            raise error
        body = error_event(self._call.endpoint, error)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _settle(self) -> None:
        self._settled = self._call.stay.spared = True

    async def _on_start(self, message: Message) -> None:
        if message["status"] >= 400:
            self._settle()
        headers = [(k, v) for k, v in message["headers"] if k.lower() != b"x-request-id"]
        headers.append((b"x-request-id", self._call.completion_id.encode()))
        if not self._settled:
            headers.append((b"x-attune-version", self._call.route.public_name.encode()))
        kind = dict(message["headers"]).get(b"content-type", b"")
        self._streams = kind.startswith(b"text/event-stream")
        self._start = {**message, "headers": headers}
        if self._settled or self._streams:
            await self._send(self._start)

    async def _on_chunk(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        if self._first is None and body:
            self._first = time.perf_counter()
        self._chunks.append(body)
        last = not message.get("more_body", False)
        if self._call.asked.hides_usage and body:
            # The token counts are for the record; the client did not ask for them.
            body = as_unasked(body, self._call.runtime.traits.fingerprint)
            if not body and not last:
                return
            message = {**message, "body": body}
        if last or ENDS.search(body):
            self._settle()
            try:
                await self._commit()
            except Absurd as error:
                message = {**message, "body": error_event(self._call.endpoint, error)}
        await self._send(message)

    async def _on_body(self, message: Message) -> None:
        self._chunks.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        self._settle()
        self._first = time.perf_counter()
        try:
            await self._commit()
        except AttuneError as error:
            await error_response(error)(self._call.scope, self._call.receive, self._send)
            return
        assert self._start is not None
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": b"".join(self._chunks)})

    async def _commit(self) -> None:
        runtime, version = self._call.runtime, self._call.route.version
        if version is None:
            await runtime.recorder.commit(self._builder("completed"))
            return
        try:
            await runtime.quarantine.require_sound(self._call.engine_model, version)
        except AttuneError:  # absurd, or nobody can tell
            await runtime.recorder.commit(self._builder("failed"))
            raise
        await runtime.recorder.commit(self._builder("completed"))
        runtime.first_answers.given_by(version)

    def _builder(
        self, outcome: Outcome, error: AttuneError | None = None
    ) -> Callable[[], Interaction]:
        told = {"error": error.code} if error else {}
        return partial(self._interaction, outcome, told, list(self._chunks), time.perf_counter())

    def _interaction(
        self, outcome: Outcome, told: Mapping[str, str], chunks: list[bytes], ended: float
    ) -> Interaction:
        call, asked, route = self._call, self._call.asked, self._call.route
        begun = self._streams or chunks
        transcript = read(call.endpoint, chunks, streamed=self._streams) if begun else Transcript()
        if transcript.error:
            outcome = "failed"
        whole = transcript.document if outcome == "completed" else None
        collected = self.collected
        unfit = {"unfit": collected.unfit} if collected and collected.unfit else {}
        return Interaction(
            id=call.completion_id,
            tenant_id=call.key.tenant_id,
            endpoint=call.endpoint,
            created_at_s=call.asked_at_s,
            outcome=outcome,
            model_requested=asked.model[:256],
            model_answered=route.public_name,
            adapter_id=route.adapter.id if route.adapter else None,
            version=route.version.number if route.version else None,
            explored=route.explored,
            prompt=recorded_prompt(call.endpoint, asked.body, call.runtime.traits.template),
            answers=tuple(transcript.answers),
            finish_reason=transcript.finish_reason,
            end_user=asked.end_user,
            domain=asked.domain,
            conversation_id=asked.conversation_id,
            sampling=recorded_sampling(asked.body),
            request=recorded_rest(asked.body),
            response={**told, **unfit} or None,
            document=kept_document(asked.body, whole),
            prompt_tokens=transcript.prompt_tokens,
            completion_tokens=transcript.completion_tokens,
            first_token_ms=None if self._first is None else (self._first - call.began) * 1e3,
            duration_ms=(ended - call.began) * 1e3,
            tokens=collected.packed() if collected else None,
            choices=transcript.told,
        )
