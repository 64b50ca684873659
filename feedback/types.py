"""The nouns of feedback: an answered request, what was said of it, what can be learnt from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.ids import AdapterId, CompletionId, FeedbackId, TenantId

Message = Mapping[str, Any]
"""An OpenAI chat message: `role`, `content`, optionally `tool_calls`."""

Outcome = Literal["completed", "cancelled", "failed"]
Kind = Literal["thumb", "score", "comment", "correction", "comparison"]
Change = Literal["created", "updated", "unchanged"]
"""What storing an item did."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """One answered request. Times in seconds since the epoch or, where named, milliseconds.

    `version` is the number of the adapter version that produced every token of the answer;
    None means the base model's own weights (also when an adapter was asked for but has no live
    version, or when the answer belongs to the exploration share).
    """

    id: CompletionId
    tenant_id: TenantId
    endpoint: str  # "chat.completions" | "completions" | "responses" | "messages"
    created_at_s: float
    outcome: Outcome
    model_requested: str
    model_answered: str  # public name, e.g. "support@7" or "base"
    adapter_id: AdapterId | None
    version: int | None
    explored: bool
    prompt: tuple[Message, ...] | str  # messages, or plain text for /v1/completions
    answers: tuple[str, ...]  # one text per choice
    finish_reason: str | None
    end_user: str | None = None
    domain: str | None = None
    conversation_id: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)  # the body as sent, less the prompt
    response: Mapping[str, Any] | None = None  # tool calls and the like
    document: Mapping[str, Any] | None = None  # the whole response, where its id fetches it
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_ms: float | None = None
    duration_ms: float | None = None
    tokens: bytes | None = None  # what was read and sampled, as `feedback.served.pack` has it


@dataclass(frozen=True, slots=True)
class Comparison:
    """One answer picked over others to the same prompt."""

    preferred: CompletionId
    rejected: tuple[CompletionId, ...]


@dataclass(frozen=True, slots=True)
class Feedback:
    """One thing said about an answer. At least one of value, comment, correction, comparison.

    `value`: True or False is a thumb, a number is a score, a string is a label by name.
    `completion_id` is None only for a comparison.
    """

    id: FeedbackId
    tenant_id: TenantId
    created_at_s: float
    completion_id: CompletionId | None = None
    choice_index: int = 0
    name: str = "thumb"
    value: bool | float | str | None = None
    comment: str | None = None
    correction: str | None = None
    comparison: Comparison | None = None
    source_kind: Literal["human", "llm", "code"] = "human"
    source_id: str | None = None
    end_user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    updated_at_s: float | None = None  # set by the store; None where it was never stored
    given_by: str | None = None  # who gave it first: a key's public part, or a device's id

    @property
    def said_at_s(self) -> float:
        """When it was last said: the change's time where it was changed, else its creation."""
        return self.created_at_s if self.updated_at_s is None else self.updated_at_s

    @property
    def completion_ids(self) -> tuple[CompletionId, ...]:
        """Every answer it speaks of, each once, in a fixed order."""
        ids = set() if self.completion_id is None else {self.completion_id}
        if self.comparison is not None:
            ids |= {self.comparison.preferred, *self.comparison.rejected}
        return tuple(sorted(ids))

    @property
    def kind(self) -> Kind:
        """The strongest signal it carries."""
        if self.comparison is not None:
            return "comparison"
        if self.correction is not None:
            return "correction"
        if isinstance(self.value, bool):
            return "thumb"
        if isinstance(self.value, int | float):
            return "score"
        return "comment"


Packed = bytes
"""Token ids as `feedback.token_ids` packs them."""


@dataclass(frozen=True, slots=True)
class Label:
    """One completion judged good or bad (KTO's unpaired signal).

    `ids` are what is trained on: of the prompt, then of the completion, as they were served. Where
    there are none, both texts go through the chat template. The texts are for people.
    """

    prompt: tuple[Message, ...] | str
    completion: str
    desirable: bool
    version: int | None  # what produced the completion; None is the base
    end_user: str | None
    at_s: float
    feedback_ids: tuple[FeedbackId, ...]
    interaction_ids: tuple[CompletionId, ...]
    ids: tuple[Packed, Packed] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions to one prompt, the first preferred (DPO's signal).

    `ids`, as a label's: of the prompt, of the chosen and of the rejected completion.
    """

    prompt: tuple[Message, ...] | str
    chosen: str
    rejected: str
    origin: Literal["comparison", "correction", "ratings"]
    version: int | None  # what produced the rejected completion; None is the base
    end_user: str | None
    at_s: float
    feedback_ids: tuple[FeedbackId, ...]
    interaction_ids: tuple[CompletionId, ...]
    ids: tuple[Packed, Packed, Packed] | None = None


@dataclass(frozen=True, slots=True)
class Learnable:
    """What pairing made of the feedback of one adapter.

    Every feedback item is either named by an example or counted once in `dropped`.
    """

    labels: tuple[Label, ...]
    pairs: tuple[Pair, ...]
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class News:
    """Feedback an adapter can learn from that arrived after a watermark; times in seconds."""

    count: int
    oldest_at_s: float
    newest_at_s: float
    max_seq: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen, content-addressed dataset of one adapter, split by prompt.

    No prompt occurs on both sides of the split. `digest` is the SHA-256 of the canonical JSON.
    """

    digest: str
    adapter_id: AdapterId
    train_labels: tuple[Label, ...]
    train_pairs: tuple[Pair, ...]
    held_out_labels: tuple[Label, ...]
    held_out_pairs: tuple[Pair, ...]
    dropped: Mapping[str, int]  # reason -> number of feedback items left out
