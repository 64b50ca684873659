"""API keys as text: how they are made, read and compared. Pure; knows no storage.

Form: `sk-at-<12 public>-<48 secret>`. The public part finds the row; of the secret only the
SHA-256 is kept (48 random characters need no slow hash).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string

from core.errors import Forbidden, Invalid, Unauthenticated
from core.identity.types import INCLUDED, SCOPES, ApiKey, Scope

_ALPHABET = string.ascii_lowercase + string.digits
_KEY = re.compile(r"sk-at-([a-z0-9]{12})-([a-z0-9]{48})")


def new_key() -> str:
    """The text of a fresh random key (248 bits of secret): the only moment its secret is known."""
    public_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(48))
    return f"sk-at-{public_id}-{secret}"


def split_key(text: str) -> tuple[str, str]:
    """Public id and secret digest of a key as sent.

    Raises Unauthenticated if it is not of an Attune key's form.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        raise Unauthenticated(
            "Incorrect API key provided. Attune keys look like 'sk-at-…'; make one with "
            "`attune keys create --tenant NAME`."
        )
    return match.group(1), hashlib.sha256(match.group(2).encode()).hexdigest()


def verify(key: ApiKey | None, secret_sha256: str, at_s: float) -> ApiKey:
    """The key, if the secret fits and it is neither revoked nor expired at `at_s`.

    Raises Unauthenticated otherwise; an unknown key and a wrong secret read the same.
    """
    stored = key.secret_sha256 if key is not None else "0" * 64
    if not hmac.compare_digest(stored, secret_sha256) or key is None:
        raise Unauthenticated("Incorrect API key provided: no such key on this server.")
    if key.revoked_at_s is not None and key.revoked_at_s <= at_s:
        raise Unauthenticated("This API key was revoked. Ask your administrator for a new one.")
    if key.expires_at_s is not None and key.expires_at_s <= at_s:
        raise Unauthenticated("This API key has expired. Ask your administrator for a new one.")
    return key


def has(key: ApiKey, scope: Scope) -> bool:
    """Whether the key has `scope`, by name or within a wider one."""
    return any(scope == held or scope in INCLUDED.get(held, ()) for held in key.scopes)


def require(key: ApiKey, scope: Scope) -> None:
    """Raises Forbidden unless the key has `scope`."""
    if not has(key, scope):
        raise Forbidden(
            f"This API key lacks the scope '{scope}'; it has: {', '.join(sorted(key.scopes))}. "
            f"Make one with `attune keys create --scope {scope}`."
        )


def parse_scopes(names: list[str]) -> frozenset[Scope]:
    """A set of scopes from their names. Raises Invalid for an unknown or empty list."""
    unknown = sorted(set(names) - set(SCOPES))
    if unknown or not names:
        raise Invalid(
            f"Unknown scope {', '.join(unknown) or '(none given)'}; choose from "
            f"{', '.join(SCOPES)}.",
            param="scope",
        )
    return frozenset(scope for scope in SCOPES if scope in names)
