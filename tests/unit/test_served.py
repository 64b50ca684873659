"""The stored form of tokens gives back what was put in, takes few bytes, and knows damage."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Invalid
from feedback.served import Served, ServedChoice, pack, unpack

ids = st.lists(st.integers(0, 2**32 - 1), max_size=20).map(tuple)
reasons = st.none() | st.sampled_from(["stop", "length", "abort"])
stops = st.none() | st.integers(0, 2**32 - 1) | st.text(max_size=8)


@st.composite
def answered(draw: st.DrawFn) -> Served:
    prompts = tuple(draw(st.lists(ids, min_size=1, max_size=3)))
    choice = st.builds(ServedChoice, st.integers(0, len(prompts) - 1), ids, reasons, stops)
    return Served(prompts, tuple(draw(st.lists(choice, max_size=4))))


@given(answered())
def test_what_is_packed_is_unpacked(served: Served) -> None:
    assert unpack(pack(served)) == served


def test_a_choice_knows_its_own_prompt() -> None:
    served = Served(((1, 2), (3,)), (ServedChoice(1, (9,)), ServedChoice(0, (8,))))
    assert [served.prompt_of(0), served.prompt_of(1)] == [(3,), (1, 2)]


@pytest.mark.parametrize(("largest", "each"), [(2**16 - 1, 2), (2**16, 4)])
def test_an_id_takes_two_bytes_or_four(largest: int, each: int) -> None:
    long, short = (
        Served(((largest,) * count,), (ServedChoice(0, (largest,) * count, "stop"),))
        for count in (10_200, 200)
    )
    assert len(pack(long)) - len(pack(short)) in range(20_000 * each, 20_000 * each + 9)


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_what_is_no_id_is_refused(bad: int) -> None:
    with pytest.raises(Invalid):
        pack(Served(((bad,),), ()))


@given(st.binary(max_size=40))
def test_other_bytes_are_refused_or_read(data: bytes) -> None:
    with suppress(Invalid):  # and nothing else
        unpack(data)


def test_damage_is_refused() -> None:
    whole = pack(Served(((1, 2, 3),), (ServedChoice(0, (4,)),)))
    for data in (b"", whole[:-1], whole[:3], b"\x94" + whole[2:]):
        with pytest.raises(Invalid):
            unpack(data)
