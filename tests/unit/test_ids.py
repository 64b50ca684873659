"""Names and ids from outside pass one parser before they become anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Invalid
from core.ids import new_id, parse_client_id, parse_digest, parse_name


@pytest.mark.parametrize("name", ["a", "support", "de-at", "a.b_c-9", "0", "x" * 64])
def test_plain_names_are_accepted_unchanged(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a..b", "-a", "a-", ".a", "a.", "A", "a b", "a/b", "../etc", "a@1", "a\n",
        "a\x00", "ä", "x" * 65, "auto", "base", "a%2f", "a\\b", "ａ",
    ],
)  # fmt: skip
def test_names_that_could_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_name(name)
    assert len(refused.value.message) < 400


@given(st.text(max_size=80))
def test_whatever_passes_as_a_name_is_harmless_in_a_path_and_an_engine_name(text: str) -> None:
    try:
        name = parse_name(text)
    except Invalid:
        return
    assert not set(name) & set("/@\\ %\x00\n")
    assert ".." not in name
    assert name.isascii()


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "../" + "0" * 61])
def test_only_sixty_four_lower_case_hex_digits_are_a_digest(text: str) -> None:
    with pytest.raises(Invalid):
        parse_digest(text)
    assert parse_digest("0a" * 32) == "0a" * 32


@pytest.mark.parametrize("text", ["", "-a", "a b", "a/b", "x" * 129, "a\n", "ä"])
def test_a_clients_own_id_must_be_plain(text: str) -> None:
    with pytest.raises(Invalid, match="The id"):
        parse_client_id(text)


def test_new_ids_carry_their_kind_and_do_not_repeat() -> None:
    made = {new_id("ten") for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(one) == 28 and one.startswith("ten_") for one in made)
