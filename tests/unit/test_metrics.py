"""Metrics by tenant and adapter: few series, whoever comes and goes."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Counter

from server.metric_labels import OTHER, Busiest, BusiestCounters


def test_the_first_keys_are_named_at_once_and_no_more_than_n() -> None:
    busiest = Busiest(2)
    for key in ("a", "b", "c"):
        assert busiest.count((key,)) == set()
    assert busiest.named == {("a",), ("b",)}


def test_who_becomes_busy_takes_the_name_of_who_fell_silent() -> None:
    busiest = Busiest(2, review_every=50)
    lost: set[tuple[str, ...]] = set()
    for key in ["a", "b"] * 25 + ["b", "c"] * 100:
        lost |= busiest.count((key,))
    assert busiest.named == {("b",), ("c",)}
    assert lost == {("a",)}


def test_two_of_like_traffic_do_not_take_the_name_from_each_other_by_turns() -> None:
    busiest = Busiest(1, review_every=100)
    chance = random.Random(0)
    assert not any(busiest.count((chance.choice("ab"),)) for _ in range(2000))


def test_a_busy_key_is_found_among_thousands_of_others_in_bounded_memory() -> None:
    """Of 5,000 keys at random, one in ten requests is for the same one."""
    busiest = Busiest(5, review_every=1000)
    chance = random.Random(1)
    for _ in range(10_000):
        rare = f"k{chance.randrange(5000)}"
        busiest.count(("hot" if chance.random() < 0.1 else rare,))
        assert len(busiest._counts) <= 40
    assert ("hot",) in busiest.named


def test_series_stay_bounded_for_ever_and_no_answer_goes_uncounted() -> None:
    """A thousand adapters are busy one after the other. Each answer is counted once: what left
    with a removed series was counted before."""
    registry = CollectorRegistry()
    answers = Counter("answers", "", ["tenant", "adapter"], registry=registry)
    tokens = Counter("tokens", "", ["tenant", "adapter", "kind"], registry=registry)
    by_adapter = BusiestCounters(3, ["tenant", "adapter"], answers, tokens, review_every=20)
    for turn in range(1000):
        for _ in range(50):
            whose = by_adapter.count("t", f"adapter-{turn}")
            answers.labels(**whose).inc()
            tokens.labels(kind="prompt", **whose).inc(7)
        names = [s.labels["adapter"] for m in answers.collect() for s in m.samples]
        assert len(set(names)) <= 4
    assert f"adapter-{turn}" in names
    assert OTHER in names
    kept = {s.labels["adapter"] for m in tokens.collect() for s in m.samples}
    assert kept == set(names)
