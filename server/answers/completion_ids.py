"""Completion ids this server issues: random, and signed for one tenant.

The signature lets feedback be accepted for an answer that is not logged yet, on any replica,
and refused for one that was never issued to this tenant, without asking the database.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re

from core.ids import TenantId

_ID = re.compile(r"(chatcmpl-|cmpl-|resp_)([0-9a-f]{24})([0-9a-f]{16})")

PREFIXES = {
    "chat.completions": "chatcmpl-",
    "messages": "chatcmpl-",
    "completions": "cmpl-",
    "responses": "resp_",
}


class IdSigner:
    """Makes and recognises completion ids; `secret` is shared by all replicas."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        # Keyed BLAKE2b (RFC 7693) is a MAC, and several times as quick as HMAC where every request
        # waits for it.
        self._key = hashlib.blake2b(self._secret).digest()

    def token(self, tenant_id: TenantId, endpoint: str = "chat.completions") -> str:
        """40 hex digits: 96 random bits and a 64-bit MAC over prefix, these and the tenant.

        What follows the endpoint's prefix in an id; behind another prefix it is none.
        """
        nonce = os.urandom(12).hex()
        return nonce + self._mac(PREFIXES.get(endpoint, "") + nonce, tenant_id)

    def derived(self, tenant_id: TenantId, *parts: str) -> str:
        """A token that is the same for the same tenant and parts, on any replica.

        It goes behind the prefix of chats. For answers given elsewhere that may be reported more
        than once. Without the secret it cannot be told from a random one.
        """
        # Lengths keep ("ab", "c") and ("a", "bc") apart; the prefix keeps it apart from `_mac`.
        text = "".join(f"{len(part)}:{part}" for part in (tenant_id, *parts))
        nonce = hmac.new(self._secret, f"derived:{text}".encode(), hashlib.sha256).hexdigest()[:24]
        # Signed as ever: told again after an upgrade, an answer must not become a second one.
        return nonce + self._hmac(nonce, tenant_id)

    def issued_to(self, completion_id: str, tenant_id: TenantId) -> bool:
        """Whether some replica issued this id, prefix and all, to this tenant."""
        match = _ID.fullmatch(completion_id)
        if match is None:
            return False
        prefix, nonce, signature = match.groups()
        return hmac.compare_digest(signature, self._mac(prefix + nonce, tenant_id)) or (
            # Derived, or issued before BLAKE2b was used.
            prefix == PREFIXES["chat.completions"]
            and hmac.compare_digest(signature, self._hmac(nonce, tenant_id))
        )

    def issued_before(self, completion_id: str, tenant_id: TenantId) -> bool:
        """Whether an earlier release issued it, whose signature says nothing of the prefix.

        Such an id is an answer's only if an answer is recorded under it.
        """
        match = _ID.fullmatch(completion_id)
        if match is None:
            return False
        _, nonce, signature = match.groups()
        return hmac.compare_digest(signature, self._mac(nonce, tenant_id)) or (
            hmac.compare_digest(signature, self._hmac(nonce, tenant_id))
        )

    def _hmac(self, nonce: str, tenant_id: TenantId) -> str:
        message = f"{nonce}:{tenant_id}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:16]

    def _mac(self, signed: str, tenant_id: TenantId) -> str:
        message = f"{signed}:{tenant_id}".encode()
        return hashlib.blake2b(message, key=self._key, digest_size=8).hexdigest()
