"""What one adapter may learn from all that was said so far: the rules of age and of shares.

Must not know: what examples are used for, when it is time to learn.
"""

from __future__ import annotations

from adapters.types import Adapter
from core.clock import now_s
from feedback.learning.pairing import learnable
from feedback.store import FeedbackStore
from feedback.types import Learnable

_SHARE_PER_USER = 0.5
"""No end user alone stands behind more than half of what a shared adapter learns."""


def read_feedback(store: FeedbackStore, adapter: Adapter) -> Learnable:
    """What the adapter can learn now: nothing that has expired, nor one user's taste for all."""
    return learnable(
        adapter.id,
        store.effective(adapter.id),
        now_s=now_s(),
        expire_after_s=adapter.learning.expire_after_s,
        max_share_per_user=None if adapter.scope == "user" else _SHARE_PER_USER,
    )
