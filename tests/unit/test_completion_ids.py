"""Completion ids: whoever was not given one cannot make one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import TenantId
from server.answers.completion_ids import PREFIXES, IdSigner

US, THEM = TenantId("ten_us"), TenantId("ten_them")
SIGNER = IdSigner("s" * 64)


@pytest.mark.parametrize("endpoint", PREFIXES)
def test_an_issued_id_is_known_to_every_replica_and_to_no_other_tenant(endpoint: str) -> None:
    completion_id = PREFIXES[endpoint] + SIGNER.token(US, endpoint)
    assert IdSigner("s" * 64).issued_to(completion_id, US)
    assert not SIGNER.issued_to(completion_id, THEM)
    assert not IdSigner("t" * 64).issued_to(completion_id, US)


@pytest.mark.parametrize("endpoint", [*PREFIXES, "tokens"])
def test_an_id_is_one_only_behind_the_prefix_it_was_issued_with(endpoint: str) -> None:
    token = SIGNER.token(US, endpoint)
    passing = {prefix for prefix in PREFIXES.values() if SIGNER.issued_to(prefix + token, US)}
    assert passing == ({PREFIXES[endpoint]} if endpoint in PREFIXES else set())
    derived = SIGNER.derived(US, "device", "edge-1")
    assert {p for p in PREFIXES.values() if SIGNER.issued_to(p + derived, US)} == {"chatcmpl-"}


def test_an_id_of_an_earlier_release_is_known_as_such_and_not_as_issued_now() -> None:
    """python -c 'from hashlib import blake2b as b; print(b(b"0" * 24 + b":acme",
    key=b(b"secret").digest(), digest_size=8).hexdigest())'"""
    signer, acme = IdSigner("secret"), TenantId("acme")
    token = "0" * 24 + "a0466f7731060dcd"
    for prefix in PREFIXES.values():
        assert signer.issued_before(prefix + token, acme)
        assert not signer.issued_to(prefix + token, acme)
        assert not signer.issued_before(prefix + token, TenantId("other"))
        assert not signer.issued_before(prefix + signer.token(acme, "messages"), acme)
    assert not signer.issued_before("msg_" + token, acme)


def test_tokens_do_not_repeat() -> None:
    assert len({SIGNER.token(US) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("at", range(40))
def test_no_digit_of_an_id_may_change(at: int) -> None:
    token = SIGNER.token(US)
    other = "0" if token[at] != "0" else "1"
    assert SIGNER.issued_to(f"chatcmpl-{token}", US)
    assert not SIGNER.issued_to(f"chatcmpl-{token[:at]}{other}{token[at + 1 :]}", US)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t, lambda t: "x-" + t, lambda t: "cmpl-" + t + "\n", lambda t: "cmpl-" + t[:-1],
        lambda t: "cmpl-" + t + "0", lambda t: " cmpl-" + t, lambda t: "cmpl-" + t.upper() + "A",
        lambda t: "cmpl-" + t + "\x00", lambda t: "cmpl-" + "é" * 40, lambda t: "",
    ],
)  # fmt: skip
def test_another_form_is_no_id(change: object) -> None:
    assert callable(change)
    assert not SIGNER.issued_to(change(SIGNER.token(US, "completions")), US)


@given(st.text(max_size=80))
def test_no_text_is_an_id_by_luck(text: str) -> None:
    assert not SIGNER.issued_to(text, US)


def test_an_id_signed_with_hmac_by_an_earlier_server_still_passes() -> None:
    """echo -n 000000000000000000000000:acme | openssl dgst -sha256 -hmac secret | head -c 16"""
    token = "0" * 24 + "d9a030efb4b5fa54"
    assert IdSigner("secret").issued_to(f"chatcmpl-{token}", TenantId("acme"))
    assert not IdSigner("secret").issued_to(f"chatcmpl-{token}", TenantId("other"))


def test_a_derived_id_stays_what_earlier_servers_derived() -> None:
    """A device that tells again what it told before an upgrade must not be recorded twice.

    The text signed is `derived:4:acme6:device6:edge-1`, then `<24 digits>:acme`, each with HMAC.
    """
    derived = IdSigner("secret").derived(TenantId("acme"), "device", "edge-1")
    assert derived == "557ff507880b015117878347ff2d96197311752d"


def test_a_derived_id_is_the_same_wherever_it_is_derived_and_passes_as_issued() -> None:
    first = IdSigner("secret").derived(TenantId("acme"), "device", "edge-1")
    assert first == IdSigner("secret").derived(TenantId("acme"), "device", "edge-1")
    assert len(first) == 40
    signer = IdSigner("secret")
    assert signer.issued_to(f"chatcmpl-{first}", TenantId("acme"))
    assert not signer.issued_to(f"chatcmpl-{first}", TenantId("other"))


def test_derived_ids_differ_by_tenant_device_answer_and_secret() -> None:
    signer = IdSigner("secret")
    acme, other = TenantId("acme"), TenantId("other")
    found = {
        signer.derived(acme, "ab", "c"),
        signer.derived(acme, "a", "bc"),
        signer.derived(other, "ab", "c"),
        IdSigner("another").derived(acme, "ab", "c"),
    }
    assert len(found) == 4
