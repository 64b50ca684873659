"""API keys: only the exact text opens the door, and only as far as its scopes say."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from core.errors import Forbidden, Invalid, Unauthenticated
from core.identity import keys
from core.identity.keys import has, new_key, parse_scopes, require, split_key, verify
from core.identity.types import INCLUDED, SCOPES, ApiKey
from core.ids import TenantId

MADE = new_key()
PUBLIC_ID, SECRET_SHA256 = split_key(MADE)
KEY = ApiKey(PUBLIC_ID, TenantId("ten_1"), SECRET_SHA256, frozenset({"inference"}), "", 0)


def test_a_new_key_splits_into_what_was_kept_of_it() -> None:
    assert split_key(MADE) == (PUBLIC_ID, SECRET_SHA256)
    assert verify(KEY, split_key(MADE)[1], at_s=1.0) is KEY


def test_of_the_secret_only_its_hash_is_kept() -> None:
    secret = MADE.rsplit("-", 1)[1]
    assert secret not in repr(KEY)
    assert hashlib.sha256(secret.encode()).hexdigest() == KEY.secret_sha256


OTHER_FORMS: dict[str, Callable[[str], str]] = {  # of a key's text
    "nothing": lambda text: "",
    "prefix": lambda text: "sk-at",
    "prefix and dash": lambda text: "sk-at-",
    "too long": lambda text: text + "x",
    "too short": lambda text: text[:-1],
    "blank before": lambda text: " " + text,
    "line break after": lambda text: text + "\n",
    "capitals": str.upper,
    "other prefix": lambda text: text.replace("sk-at", "sk-xx"),
    "NUL after": lambda text: text + "\x00",
    "letters outside ASCII": lambda text: "sk-at-" + "é" * 12 + "-" + "a" * 48,
    "very long": lambda text: "x" * 100_000,
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_text_of_another_form_is_no_key(form: str) -> None:
    with pytest.raises(Unauthenticated):
        split_key(OTHER_FORMS[form](MADE))


def test_a_wrong_secret_and_an_unknown_key_read_the_same() -> None:
    forged = split_key(f"sk-at-{PUBLIC_ID}-{'a' * 48}")[1]
    with pytest.raises(Unauthenticated) as wrong:
        verify(KEY, forged, at_s=1.0)
    with pytest.raises(Unauthenticated) as unknown:
        verify(None, forged, at_s=1.0)
    assert wrong.value.message == unknown.value.message
    with pytest.raises(Unauthenticated):
        verify(None, "0" * 64, at_s=1.0)  # the placeholder an unknown key is compared with


def test_the_secret_is_compared_in_constant_time_also_for_an_unknown_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[Any, Any]] = []

    def spy(left: Any, right: Any) -> bool:
        compared.append((left, right))
        return hmac.compare_digest(left, right)

    monkeypatch.setattr(keys, "hmac", type("spied", (), {"compare_digest": staticmethod(spy)}))
    verify(KEY, SECRET_SHA256, at_s=1.0)
    with pytest.raises(Unauthenticated):
        verify(None, SECRET_SHA256, at_s=1.0)
    assert compared == [(SECRET_SHA256,) * 2, ("0" * 64, SECRET_SHA256)]


def test_a_key_ends_at_the_second_of_its_expiry_or_revocation() -> None:
    for field, word in (("expires_at_s", "expired"), ("revoked_at_s", "revoked")):
        key = replace(KEY, **{field: 100.0})
        assert verify(key, SECRET_SHA256, at_s=99.999) is key
        for at_s in (100.0, 101.0):
            with pytest.raises(Unauthenticated, match=word):
                verify(key, SECRET_SHA256, at_s=at_s)


def test_whether_a_key_is_revoked_is_not_told_to_who_lacks_the_secret() -> None:
    with pytest.raises(Unauthenticated) as refused:
        verify(replace(KEY, revoked_at_s=1.0), "f" * 64, at_s=2.0)
    assert "revoked" not in refused.value.message


@pytest.mark.parametrize("scope", SCOPES)
def test_admin_includes_every_scope_and_no_other_includes_admin(scope: Any) -> None:
    require(replace(KEY, scopes=frozenset({"admin"})), scope)
    require(replace(KEY, scopes=frozenset({scope})), scope)
    for other in set(SCOPES) - {scope, "admin"}:
        if scope in INCLUDED.get(other, ()):
            require(replace(KEY, scopes=frozenset({other})), scope)
            continue
        with pytest.raises(Forbidden, match=scope):
            require(replace(KEY, scopes=frozenset({other})), scope)


def test_what_feedback_meant_before_it_was_divided_is_all_it_includes() -> None:
    old = replace(KEY, scopes=frozenset({"feedback"}))
    allowed = {scope for scope in SCOPES if has(old, scope)}
    assert allowed == {"feedback", "feedback:write", "feedback:read", "edge"}
    divided = replace(KEY, scopes=frozenset({"feedback:write", "feedback:read", "edge"}))
    assert not has(divided, "feedback")  # its parts do not add up to what others gave


def test_a_key_without_scopes_may_nothing() -> None:
    for scope in SCOPES:
        with pytest.raises(Forbidden):
            require(replace(KEY, scopes=frozenset()), scope)


def test_scopes_are_read_by_name_and_unknown_ones_named() -> None:
    assert parse_scopes(["train", "inference", "train"]) == {"train", "inference"}
    for names in ([], ["root"], ["train", "ADMIN"]):
        with pytest.raises(Invalid, match=names[-1] if names else "none given"):
            parse_scopes(names)
