"""What was noted of a request becomes prompts and choices, or a reason why there are none."""

from __future__ import annotations

from typing import Any

import pytest

from feedback.served import Served, ServedChoice, unpack
from server.answers.served import Collected, Reading, collected_for


def begun(collected: Collected, prompt: list[int], choices: int = 1) -> Reading:
    reading = collected.begin(prompt, choices)
    assert reading is not None
    return reading


def test_an_answer_is_its_prompt_and_what_was_sampled_with_its_end() -> None:
    collected = Collected()
    (choice,) = begun(collected, [1, 2]).choices
    choice.token_ids.extend([7, 8])
    choice.finish_reason, choice.stop_reason = "stop", "END"
    expected = Served(((1, 2),), (ServedChoice(0, (7, 8), "stop", "END"),))
    assert collected.served() == expected
    packed = collected.packed()
    assert packed is not None
    assert unpack(packed) == expected


def test_the_choices_of_a_batch_follow_its_prompts() -> None:
    """Index 2 is the first choice of the second prompt, whichever is sampled first."""
    collected = Collected(batches=True)
    first, second = begun(collected, [1], 2), begun(collected, [2, 3], 2)
    for number, choice in enumerate([*second.choices, *first.choices]):
        choice.token_ids.append(number)
    served = collected.served()
    assert served is not None
    assert served.prompts == ((1,), (2, 3))
    assert [choice.token_ids for choice in served.choices] == [(2,), (3,), (0,), (1,)]
    assert [served.prompt_of(choice) for choice in range(4)] == [(1,), (1,), (2, 3), (2, 3)]


def test_what_is_broken_off_has_no_reason_and_what_was_not_begun_no_tokens() -> None:
    collected = Collected()
    first, _ = begun(collected, [1], 2).choices
    first.token_ids.append(9)
    served = collected.served()
    assert served is not None
    assert served.choices == (ServedChoice(0, (9,)), ServedChoice(0, ()))


def test_an_engine_that_was_never_asked_leaves_nothing() -> None:
    assert Collected().served() is None
    assert Collected().packed() is None


def test_several_turns_of_one_answer_have_no_one_prompt() -> None:
    collected = Collected()
    begun(collected, [1])
    assert collected.begin([1, 2], 1) is None
    assert (collected.unfit, collected.served()) == ("several_prompts", None)


def test_a_prompt_that_is_more_than_tokens_is_named() -> None:
    collected = Collected()
    assert collected.begin(None, 1) is None
    assert (collected.unfit, collected.packed()) == ("multi_modal", None)


@pytest.mark.parametrize(
    ("endpoint", "body", "unfit"),
    [
        ("completions", {"use_beam_search": True}, "beam_search"),
        ("chat.completions", {"use_beam_search": True, "n": 2}, "beam_search"),
        ("chat.completions", {"use_beam_search": False}, None),
        ("chat.completions", {"use_beam_search": None}, None),
        ("responses", {}, None),
    ],
)
def test_what_is_searched_for_is_not_collected(
    endpoint: str, body: dict[str, Any], unfit: str | None
) -> None:
    collected = collected_for(endpoint, body)
    assert (collected.begin([1], 1) is None) == (unfit is not None)
    assert collected.unfit == unfit


@pytest.mark.parametrize("endpoint", ["chat.completions", "responses", "messages"])
def test_only_completions_come_in_batches(endpoint: str) -> None:
    for name, several in ((endpoint, False), ("completions", True)):
        collected = collected_for(name, {})
        begun(collected, [1])
        assert (collected.begin([2], 1) is not None) == several


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"echo": True, "max_tokens": 0}, False),
        ({"echo": True, "max_tokens": "0"}, False),
        ({"echo": True, "max_tokens": 0.0}, False),
        ({"echo": True, "max_tokens": 1}, True),
        ({"echo": True}, True),
        ({"echo": True, "max_tokens": None}, True),
        ({"echo": True, "max_tokens": "many"}, True),
        ({"echo": False, "max_tokens": 0}, True),
        ({"max_tokens": 0}, True),
    ],
)
def test_the_token_behind_a_mere_echo_is_not_an_answer(body: dict[str, Any], shown: bool) -> None:
    collected = collected_for("completions", body)
    begun(collected, [1, 2]).choices[0].token_ids.append(5)
    served = collected.served()
    assert served is not None
    assert (served.prompts, served.choices[0].token_ids) == (((1, 2),), (5,) if shown else ())
