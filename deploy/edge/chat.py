"""A chat in the terminal, every answer kept, every thumb too. Talks to no network."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Event

from core.errors import AttuneError
from deploy.edge.answering import Answering, Told
from deploy.edge.asks import ChatAsk
from deploy.edge.installed import Installation
from deploy.edge.store import Store
from deploy.edge.types import Answered, Message, Note, Sampling

HELP = (
    "Type a message. /up and /down rate the last answer, /fix TEXT says what it should have been, "
    "/new begins anew, /quit ends."
)


@dataclass(slots=True)
class Chat:
    """One conversation at a time with `model`; `write` gets text as it should appear."""

    installation: Installation
    answering: Answering
    store: Store
    model: str
    sampling: Sampling
    write: Callable[[str], None]
    conversation_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _messages: list[Message] = field(default_factory=list)
    _last: Answered | None = None

    def run(self, lines: Iterable[str]) -> None:
        """Answer line after line until they end or say /quit."""
        self.write(f"{self.installation.find(self.model).name}. {HELP}\n")
        for line in lines:
            text = line.strip()
            if text == "/quit":
                return
            try:
                self._take(text)
            except AttuneError as error:
                self.write(f"error: {error.message}\n")

    def _take(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if not text:
            return
        if word == "/up" or word == "/down":
            self._note(value=word == "/up")
        elif word == "/fix" and rest.strip():
            self._note(correction=rest.strip())
        elif word == "/new":
            self._messages.clear()
            self._last, self.conversation_id = None, uuid.uuid4().hex
            self.write("A new conversation.\n")
        elif word.startswith("/"):
            self.write(HELP + "\n")
        else:
            self._answer(text)

    def _answer(self, text: str) -> None:
        ask = ChatAsk(
            model=self.model,
            messages=(*self._messages, {"role": "user", "content": text}),
            sampling=self.sampling,
            conversation_id=self.conversation_id,
        )
        gone = Event()
        before = signal.signal(signal.SIGINT, lambda *_: gone.set())
        try:
            answered = self.answering.answer(ask, self._hear, gone)
        finally:
            signal.signal(signal.SIGINT, before)
        self.write("\n")
        if answered is not None:
            self._messages = [*ask.messages, {"role": "assistant", "content": answered.answer}]
            self._last = answered

    def _hear(self, told: Told) -> None:
        if isinstance(told, str):
            self.write(told)

    def _note(self, value: bool | None = None, correction: str | None = None) -> None:
        if self._last is None:
            self.write("There is no answer yet.\n")
            return
        note = Note(
            # One thumb and one correction per answer: another /down replaces the /up before it.
            id=f"{self._last.id}-{'thumb' if correction is None else 'correction'}",
            completion_id=self._last.id,
            created_at_s=time.time(),
            name="thumb" if correction is None else "correction",
            value=value,
            correction=correction,
        )
        self.store.put_note(note)
        self.write("Kept.\n")
