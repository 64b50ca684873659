"""A speaker without a model: it says what it is told, piece by piece, when it is let."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from core.errors import Invalid, Unavailable
from deploy.edge.installed import Variant
from deploy.edge.types import Message, Sampling, Speaker


@dataclass
class ScriptedSpeech:
    """One answer: `pieces`, each after a turn of `pace` if there is one; a word is a token."""

    pieces: Sequence[str]
    pace: threading.Semaphore | None
    limit: int
    fails: bool
    gone: threading.Event
    text: str = ""
    finish_reason: str = "stop"
    prompt: Sequence[int] = (11, 12, 13, 14, 15)
    token_ids: list[int] = field(default_factory=list)
    first_token_ms: float | None = None
    duration_ms: float = 1.0

    def __iter__(self) -> Iterator[str]:
        for piece in self.pieces:
            while self.pace is not None and not self.gone.is_set():
                if self.pace.acquire(timeout=0.01):
                    break
            if self.gone.is_set():
                self.finish_reason = "cancelled"
                return
            if len(self.token_ids) == self.limit:
                self.finish_reason = "length"
                return
            if self.fails and len(self.token_ids) == 2:
                raise Unavailable("The model failed while it answered.", code="model_failed")
            self.token_ids.append(100 + len(self.token_ids))
            self.first_token_ms = 1.0
            self.text += piece
            yield piece


@dataclass
class ScriptedSpeaker:
    """Answers every request alike and notes what it was asked. A prompt has room for 100 words."""

    pieces: Sequence[str] = ("In ", "house ", "12.")
    pace: threading.Semaphore | None = None
    fails: bool = False
    asked: list[tuple[str, Sequence[Message], Sampling]] = field(default_factory=list)
    speeches: list[ScriptedSpeech] = field(default_factory=list)

    def start(
        self,
        variant: Variant,
        messages: Sequence[Message],
        sampling: Sampling,
        gone: threading.Event | None = None,
    ) -> ScriptedSpeech:
        self.asked.append((variant.name, messages, sampling))
        if sum(len(message["content"].split()) for message in messages) > 100:
            raise Invalid("Too long.", param="messages", code="context_length_exceeded")
        limit = sampling.max_tokens or len(self.pieces)
        gone = gone or threading.Event()
        self.speeches.append(ScriptedSpeech(self.pieces, self.pace, limit, self.fails, gone))
        return self.speeches[-1]


def check_speaker(speaker: Speaker, variant: Variant) -> None:
    """What every speaker promises; the real engine and the scripted one are both held to it."""
    ask = [{"role": "user", "content": "Where does the otter live in February?"}]
    greedy = Sampling(temperature=0.0, max_tokens=40)
    speech = speaker.start(variant, ask, greedy)
    pieces = list(speech)
    assert "".join(pieces) == speech.text != ""
    assert speech.finish_reason == "stop"
    assert len(speech.token_ids) >= len(pieces)
    assert len(speech.prompt) > 0
    assert speech.first_token_ms is not None
    assert 0 <= speech.first_token_ms <= max(speech.duration_ms, speech.first_token_ms)

    assert "".join(speaker.start(variant, ask, greedy)) == speech.text

    short = speaker.start(variant, ask, Sampling(temperature=0.0, max_tokens=2))
    assert speech.text.startswith("".join(short))
    assert short.finish_reason == "length"
    assert list(short.token_ids) == list(speech.token_ids)[:2]
    assert list(short.prompt) == list(speech.prompt)

    gone = threading.Event()
    left = speaker.start(variant, ask, greedy, gone)
    begun = iter(left)
    next(begun)
    gone.set()
    assert list(begun) == []
    assert (left.finish_reason, bool(left.text)) == ("cancelled", True)

    long = [{"role": "user", "content": "word " * 2_000}]
    with pytest.raises(Invalid) as refused:
        speaker.start(variant, long, greedy)
    assert refused.value.code == "context_length_exceeded"
