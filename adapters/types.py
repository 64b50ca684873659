"""The nouns of serving: adapters, immutable versions and where a request goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from adapters.recipe import Recipe
from core.ids import AdapterId, Digest, TenantId
from core.names import one_spelling

AdapterScope = Literal["tenant", "domain", "user"]
MethodChoice = Literal["auto", "dpo", "kto", "sft"]
VersionState = Literal["candidate", "live", "retired", "rejected", "quarantined"]


@dataclass(frozen=True, slots=True)
class Learning:
    """How one adapter learns.

    A run starts when at least `min_labels` thumbs, of which at least `min_minority` of the rarer
    kind, or at least `min_pairs` pairs are known, *and* there is news: `new_items` new feedback
    items since the last run, or any once `max_age_s` seconds have passed since the oldest of it.
    `exploration` is the share of answers that come from the base model although a version is live,
    so that thumbs keep carrying signal (0 to 0.9). `expire_after_s`: older feedback is
    left out; None keeps it. `method`: what it is trained by; "auto" is DPO where pairs carry most
    of what was said, else KTO. `recipe`: the figures of its trainings.
    """

    enabled: bool = True
    min_labels: int = 32
    min_minority: int = 6
    min_pairs: int = 16
    new_items: int = 32
    max_age_s: float = 3600.0
    exploration: float = 0.1
    held_out_share: float = 0.2
    expire_after_s: float | None = None
    method: MethodChoice = "auto"
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A named line of LoRA versions; `live_version` None means the base answers for it."""

    id: AdapterId
    tenant_id: TenantId
    name: str
    scope: AdapterScope
    subject: str | None
    created_at_s: float
    live_version: int | None
    generation: int
    learning: Learning = field(default_factory=Learning)

    @property
    def serves(self) -> tuple[TenantId, AdapterScope, str | None]:
        """Whom it answers under `auto`, the name in the one spelling requests are read in."""
        return self.tenant_id, self.scope, one_spelling(self.subject)


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable set of adapter weights. `engine_id` is never reused, in any adapter."""

    engine_id: int
    adapter_id: AdapterId
    number: int
    state: VersionState
    digest: Digest
    size_bytes: int
    rank: int
    target_modules: tuple[str, ...]
    source: Literal["upload", "run"]
    run_id: str | None
    parent: int | None
    created_at_s: float
    note: str
    base_digest: Digest | None = None
    """The base model it was made for; None: recorded by a release that did not know."""

    def is_for(self, base_digest: Digest | None) -> bool:
        """Whether it may run on this base model; None is one that nobody has identified."""
        return base_digest is None or self.base_digest in (None, base_digest)


@dataclass(frozen=True, slots=True)
class Route:
    """Where one request goes, decided once, before the engine sees it.

    `version` None: the base model's own weights. `public_name` is what the client is told.
    """

    adapter: Adapter | None
    version: Version | None
    explored: bool
    public_name: str


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """What validation learnt of an adapter folder."""

    digest: Digest
    size_bytes: int
    rank: int
    target_modules: tuple[str, ...]
    base_digest: Digest | None = None  # what it was validated against
