"""The ways feedback comes in; each turns its own wire format into our items."""

from __future__ import annotations

from typing import Any

from feedback.receivers.base import Receiver
from feedback.receivers.device import DeviceReceiver
from feedback.receivers.judgements import JudgementsReceiver
from feedback.receivers.langfuse import LangfuseReceiver
from feedback.receivers.native import NativeReceiver

RECEIVERS: list[Receiver[Any]] = [
    NativeReceiver(),
    DeviceReceiver(),
    LangfuseReceiver(),
    JudgementsReceiver(),
]


def receiver_at(path: str) -> Receiver[Any] | None:
    """Who listens at this path, or erases there."""
    for receiver in RECEIVERS:
        if path == receiver.path or path.startswith(f"{receiver.path}/"):
            return receiver
    return None
