"""Model names to weights: a table of what each name means, and what stays invisible."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.directory import Directory
from adapters.routing import engine_name, route
from adapters.types import Adapter, AdapterScope, Learning, Version
from core.errors import Conflict, NotFound
from core.ids import AdapterId, Digest, TenantId

US, THEM = TenantId("ten_us"), TenantId("ten_them")


def adapter(
    tenant: TenantId,
    name: str,
    live: int | None,
    scope: AdapterScope = "tenant",
    subject: str | None = None,
) -> Adapter:
    learning = Learning(exploration=0.25)
    identity = AdapterId(f"{tenant}-{name}")
    return Adapter(identity, tenant, name, scope, subject, 0.0, live, 0, learning)


def version(of: Adapter, number: int) -> Version:
    return Version(
        number, of.id, number, "live", Digest("0" * 64), 1, 8, ("q_proj",), "run", None, None, 0, ""
    )


def directory(*adapters: Adapter) -> Directory:
    return Directory(
        by_name={(a.tenant_id, a.name): a for a in adapters},
        by_subject={(a.tenant_id, a.scope, a.subject): a for a in reversed(adapters)},
        versions={
            a.id: {n: version(a, n) for n in range(1, (a.live_version or 0) + 1)} for a in adapters
        },
    )


SUPPORT = adapter(US, "support", 7)
FRESH = adapter(US, "fresh", None)
LEGAL = adapter(US, "legal", 2, "domain", "law")
ANN = adapter(US, "ann", 1, "user", "ann")
SECRET = adapter(THEM, "secret", 3)
BOTH = adapter(THEM, "support", 1)
ALL = directory(SUPPORT, FRESH, LEGAL, ANN, SECRET, BOTH)


@pytest.mark.parametrize(
    ("model", "adapter_name", "number", "public"),
    [
        ("base", None, None, "town"),
        ("town", None, None, "town"),
        ("support", "support", 7, "support@7"),
        ("support@7", "support", 7, "support@7"),
        ("support@1", "support", 1, "support@1"),
        ("fresh", "fresh", None, "town"),
        ("legal", "legal", 2, "legal@2"),
        ("auto", "support", 7, "support@7"),
    ],
)
def test_each_model_name_means_one_set_of_weights(
    model: str, adapter_name: str | None, number: int | None, public: str
) -> None:
    found = route(ALL, US, model, served_name="town", draw=0.99)
    assert (found.adapter and found.adapter.name) == adapter_name
    assert (found.version and found.version.number) == number
    assert (found.public_name, found.explored) == (public, False)


@pytest.mark.parametrize(
    "model",
    [
        "support@8", "support@0", "support@-1", "support@01", "support@", "support@1@1", "@1",
        "support@1 ", " support", "support@9999999999", "SUPPORT", "support@1.0", "fresh@1",
        "ten_them/secret@3", "ten_us/support@7", "../support", "", "\x00", "x" * 10_000, "base@1",
        "auto@1", "support@१",
    ],
)  # fmt: skip
def test_a_name_that_is_not_the_callers_is_not_found(model: str) -> None:
    with pytest.raises(NotFound) as missing:
        route(ALL, US, model, served_name="town", draw=0.99)
    assert missing.value.code == "model_not_found"
    assert len(missing.value.message) < 500


@pytest.mark.parametrize("suffix", ["", "@1", "@3", "@99"])
def test_another_tenants_adapter_reads_like_one_that_nobody_has(suffix: str) -> None:
    messages = []
    for name in ("secret", "nobody"):
        with pytest.raises(NotFound) as missing:
            route(ALL, US, name + suffix)
        messages.append(missing.value.message.replace(name, "*"))
    assert messages[0] == messages[1]


def test_two_tenants_same_adapter_name_means_each_ones_own() -> None:
    ours = route(ALL, US, "support", draw=1.0)
    theirs = route(ALL, THEM, "support", draw=1.0)
    assert ours.adapter == SUPPORT
    assert theirs.adapter == BOTH
    assert ours.version
    assert theirs.version
    assert engine_name(US, SUPPORT, ours.version) == "ten_us/support@7"
    assert engine_name(THEM, BOTH, theirs.version) == "ten_them/support@1"


@pytest.mark.parametrize(
    ("end_user", "domain", "name"),
    [
        ("ann", "law", "ann"),
        ("ann", None, "ann"),
        ("bob", "law", "legal"),
        (None, "law", "legal"),
        ("bob", "art", "support"),
        (None, None, "support"),
        ("law", "ann", "support"),  # a user called like a domain is not that domain
    ],
)
def test_auto_takes_the_users_then_the_domains_then_the_tenants_adapter(
    end_user: str | None, domain: str | None, name: str
) -> None:
    found = route(ALL, US, "auto", end_user=end_user, domain=domain, draw=1.0)
    assert found.adapter is not None
    assert found.adapter.name == name


def test_auto_without_any_adapter_is_the_base_model() -> None:
    found = route(ALL, TenantId("ten_new"), "auto", end_user="ann", domain="law", draw=0.0)
    assert (found.adapter, found.version, found.explored) == (None, None, False)


@pytest.mark.parametrize(
    ("draw", "explored"), [(0.0, True), (0.2499, True), (0.25, False), (0.9999, False)]
)
def test_the_exploration_share_is_answered_by_the_base(draw: float, explored: bool) -> None:
    for model in ("support", "auto"):
        found = route(ALL, US, model, draw=draw)
        assert found.explored is explored
        assert found.adapter == SUPPORT
        assert (found.version is None) is explored
        assert found.public_name == ("base" if explored else "support@7")


@pytest.mark.parametrize("model", ["support@7", "base", "fresh"])
def test_pinned_base_and_unborn_adapters_are_never_explored(model: str) -> None:
    assert not route(ALL, US, model, draw=0.0).explored


def test_without_a_draw_the_share_is_kept_by_chance() -> None:
    """Share 0.25 of 4,000: mean 1,000, deviation 27; 800 to 1,200 is seven deviations."""
    explored = sum(route(ALL, US, "support").explored for _ in range(4000))
    assert 800 < explored < 1200


def test_no_exploration_means_none_at_all() -> None:
    for share, explored in ((0.0, False), (0.01, True)):
        given = directory(replace(SUPPORT, learning=Learning(exploration=share)))
        assert route(given, US, "support", draw=0.0).explored is explored


@given(st.text(max_size=90))
def test_no_name_reaches_another_tenants_weights(model: str) -> None:
    try:
        found = route(ALL, US, model)
    except NotFound:
        return
    assert found.adapter is None or found.adapter.tenant_id == US


def test_a_quarantined_version_is_not_routed_to_by_its_number() -> None:
    banned = replace(version(SUPPORT, 3), state="quarantined")
    known = replace(ALL, versions={**ALL.versions, SUPPORT.id: {3: banned}})
    with pytest.raises(Conflict, match="quarantined"):
        route(known, US, "support@3", served_name="town")


def test_a_version_made_for_another_base_model_is_refused_however_it_is_asked_for() -> None:
    """One whose base nobody recorded is not: it was adopted, or is about to be."""
    ours, theirs = Digest("1" * 64), Digest("2" * 64)
    versions = {
        SUPPORT.id: {
            6: version(SUPPORT, 6),
            7: replace(version(SUPPORT, 7), base_digest=theirs),
        }
    }
    known = replace(ALL, versions={**ALL.versions, **versions})
    for model in ("support", "support@7", "auto"):
        with pytest.raises(Conflict, match="another base model") as refused:
            route(known, US, model, draw=1.0, base_digest=ours)
        assert (refused.value.code, refused.value.param) == ("other_base", "model")
        assert route(known, US, model, draw=1.0, base_digest=theirs).public_name == "support@7"
    assert route(known, US, "support@6", draw=1.0, base_digest=ours).public_name == "support@6"
