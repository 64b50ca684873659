"""Frozen datasets: split by prompt, named by the hash of their content, kept for audit.

A snapshot's bytes are canonical JSON and their SHA-256 is its digest: the same feedback gives
the same digest, and anybody can check a stored file. When it was made is not part of it. Token
ids stand in it as base64 of what `feedback.token_ids` packs; one without any is of the first form.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from core.clock import now_s
from core.database import Database, insert_ignoring_duplicates
from core.errors import Invalid
from core.ids import AdapterId
from feedback.learning.texts import prompt_key
from feedback.tables import snapshots
from feedback.types import Label, Pair, Snapshot

_FORMATS = (1, 2)  # without token ids, with them
_SIDES = ("train_labels", "train_pairs", "held_out_labels", "held_out_pairs")


def freeze(
    adapter_id: AdapterId,
    labels: Sequence[Label],
    pairs: Sequence[Pair],
    dropped: Mapping[str, int],
    held_out_share: float,
) -> Snapshot:
    """Split by prompt and freeze; `held_out_share` (0 to 1) of the prompts is not trained on.

    No prompt is on both sides; prompts are one where their token ids are equal. Each kind of
    example (good, bad, pair) that has two prompts or more is on both sides where the prompts
    allow it. The choice follows a hash of the prompt's words, so that most held-out prompts stay
    held out as feedback grows.
    """
    if not 0 <= held_out_share < 1:
        raise Invalid("held_out_share must be at least 0 and below 1.", param="held_out_share")
    kinds: dict[str, set[str]] = defaultdict(set)  # prompt -> kinds of example it has
    words: dict[str, str] = {}
    said: list[Label | Pair] = [*labels, *pairs]
    keyed = [(_prompt_of(example), example) for example in said]
    for prompt, example in keyed:
        worded = prompt_key(example.prompt)
        words[prompt] = min(worded, words.get(prompt, worded))
        kinds[prompt].add(_kind(example))
    ordered = sorted(kinds, key=lambda prompt: (_digest(_bytes(words[prompt])), prompt))
    held_out = _held_out_prompts({prompt: kinds[prompt] for prompt in ordered}, held_out_share)
    train = [example for prompt, example in keyed if prompt not in held_out]
    kept = [example for prompt, example in keyed if prompt in held_out]
    snapshot = Snapshot(
        digest="",
        adapter_id=adapter_id,
        train_labels=tuple(x for x in train if isinstance(x, Label)),
        train_pairs=tuple(x for x in train if isinstance(x, Pair)),
        held_out_labels=tuple(x for x in kept if isinstance(x, Label)),
        held_out_pairs=tuple(x for x in kept if isinstance(x, Pair)),
        dropped=dict(dropped),
    )
    return replace(snapshot, digest=_digest(to_bytes(snapshot)))


def to_bytes(snapshot: Snapshot) -> bytes:
    """The canonical JSON whose SHA-256 is the snapshot's digest."""
    content: dict[str, Any] = {
        "adapter_id": snapshot.adapter_id,
        "dropped": dict(snapshot.dropped),
    }
    for side in _SIDES:
        content[side] = [_entry(example) for example in getattr(snapshot, side)]
    with_ids = any("ids" in entry for side in _SIDES for entry in content[side])
    content["format"] = _FORMATS[with_ids]
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def from_bytes(data: bytes, *, digest: str | None = None) -> Snapshot:
    """The snapshot of `to_bytes`; Invalid if the bytes are damaged or not those of `digest`."""
    actual = _digest(data)
    if digest is not None and actual != digest:
        raise Invalid(f"The snapshot is damaged: expected SHA-256 {digest}, found {actual}.")
    try:
        content = json.loads(data)
        if content["format"] not in _FORMATS:
            raise Invalid(f"Snapshot format {content['format']!r} is not known to this version.")
        return msgspec.convert({**content, "digest": actual}, Snapshot)
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"This is not a snapshot: {error}.") from error


def counts(snapshot: Snapshot) -> dict[str, int]:
    """How many examples of which kind are on which side, for display."""
    result = {side: len(getattr(snapshot, side)) for side in _SIDES}
    labels = (*snapshot.train_labels, *snapshot.held_out_labels)
    result["labels_up"] = sum(label.desirable for label in labels)
    result["labels_down"] = len(labels) - result["labels_up"]
    result["dropped"] = sum(snapshot.dropped.values())
    return result


def register(database: Database, snapshot: Snapshot, artifact_uri: str) -> None:
    """Enter a stored snapshot; one that is known already stays as it was entered first."""
    row = {
        "digest": snapshot.digest,
        "adapter_id": snapshot.adapter_id,
        "created_at_s": now_s(),
        "artifact_uri": artifact_uri,
        "counts": counts(snapshot),
    }
    with database.write() as connection:
        insert_ignoring_duplicates(connection, snapshots, [row])


def _entry(example: Label | Pair) -> dict[str, Any]:
    entry: dict[str, Any] = msgspec.to_builtins(example)
    if entry["ids"] is None:
        del entry["ids"]
    return entry


def _prompt_of(example: Label | Pair) -> str:
    """What tells its prompt apart: the ids that were read, else the words."""
    return prompt_key(example.prompt) if example.ids is None else example.ids[0].hex()


def _kind(example: Label | Pair) -> str:
    if isinstance(example, Pair):
        return "pair"
    return "good" if example.desirable else "bad"


def _held_out_prompts(kinds: Mapping[str, set[str]], share: float) -> set[str]:
    """Of prompts in the order they are chosen in."""
    if share == 0 or len(kinds) < 2:
        return set()
    ordered = list(kinds)
    total = {kind: sum(kind in has for has in kinds.values()) for kind in ("good", "bad", "pair")}
    strata: dict[str, list[str]] = defaultdict(list)  # a prompt counts for its rarest kind
    for prompt in ordered:
        strata[min(kinds[prompt], key=lambda kind: (total[kind], kind))].append(prompt)
    held_out: set[str] = set()
    for prompts in strata.values():
        if len(prompts) > 1:
            wanted = max(1, round(share * len(prompts)))
            held_out.update(prompts[: min(wanted, len(prompts) - 1)])

    def on(held: bool, kind: str) -> int:
        return sum(kind in kinds[prompt] for prompt in ordered if (prompt in held_out) is held)

    for kind in sorted(total, key=lambda kind: (total[kind], kind)):
        for held in (True, False):
            if total[kind] > 1 and on(held, kind) == 0:
                _move_one(
                    kind, [p for p in ordered if (p in held_out) is not held], kinds, held_out, on
                )
    return held_out


def _move_one(
    kind: str,
    candidates: Sequence[str],
    kinds: Mapping[str, set[str]],
    held_out: set[str],
    on: Callable[[bool, str], int],
) -> None:
    """Move the first prompt of `kind` whose leaving takes no kind from its own side."""
    for prompt in candidates:
        held = prompt in held_out
        if kind in kinds[prompt] and all(on(held, other) > 1 for other in kinds[prompt]):
            held_out.symmetric_difference_update([prompt])
            return


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
