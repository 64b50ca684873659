"""What `attune bench learn` rests on: tastes, questions, raters, prompts, kept runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from core.errors import Invalid
from deploy.bench.learn import measure, table
from deploy.bench.tastes.asking import Received
from deploy.bench.tastes.judges import TASTES, Said, broken
from deploy.bench.tastes.neutral import TEXTS
from deploy.bench.tastes.people import FEWEST_UPS, Stream, rate
from deploy.bench.tastes.prompting import nearest, prompted
from deploy.bench.tastes.questions import MOST_HELD_OUT, questions
from deploy.bench.tastes.runs import Setting, kept, summary

WORDS_30 = " ".join(f"word{number}" for number in range(30))


@pytest.mark.parametrize(
    ("text", "is_liked"),
    [
        ("You can:\n1. Warm it.\n2. Dry it.", True),
        ("- warm it\n- dry it", True),
        ("* **Warm** it\n* Dry it", True),
        ("1) Warm\n2) Dry", True),
        ("1. Warm it.", False),
        ("In 2021. we\nhad 3. of them", False),
        ("A well-known way - warm it - works.", False),
        ("", False),
    ],
)
def test_a_list_is_two_lines_that_begin_as_items(text: str, is_liked: bool) -> None:
    assert TASTES["list"](Said(text, ended=False)) is is_liked


def test_brief_is_at_most_thirty_words_that_end() -> None:
    assert TASTES["brief"](Said(WORDS_30, ended=True))
    assert not TASTES["brief"](Said(WORDS_30 + " more", ended=True))
    assert not TASTES["brief"](Said("Warm it and", ended=False))
    assert not TASTES["brief"](Said("", ended=True))


def test_asking_back_is_ending_by_a_question() -> None:
    assert TASTES["ask-back"](Said("Warm it. Is it new?\n", ended=True))
    assert TASTES["ask-back"](Said('He said "why?"', ended=True))
    assert not TASTES["ask-back"](Said("Is it new? Then warm it.", ended=True))
    assert not TASTES["ask-back"](Said("Is it new?", ended=False))


@pytest.mark.parametrize(
    ("text", "is_broken"),
    [
        ("Warm the pan and wipe it dry.", False),
        ("Нагрейте сковороду.", False),
        ("", True),
        ("... !!", True),
        ("go to the shop " * 3, True),
        ("go to the shop " * 2, False),
        ("Sure.<|im_start|>user", True),
        ("caf\ufffd", True),
    ],
)
def test_broken_answers_are_told_from_whole_ones(text: str, is_broken: bool) -> None:
    assert broken(Said(text, ended=True)) is is_broken


def test_held_out_questions_are_about_nothing_that_is_rated() -> None:
    rated, held_out = questions(0, MOST_HELD_OUT)
    assert (len(rated), len(held_out)) == (120, 240)
    assert len({*rated, *held_out}) == 360
    topics = ("cast-iron pan", "fountain pen", "basil")
    for topic in topics:
        sides = {topic in " ".join(rated), topic in " ".join(held_out)}
        assert sides == {True, False}


def test_questions_are_the_same_for_a_seed_and_others_for_another() -> None:
    assert questions(1, 30) == questions(1, 30)
    assert questions(1, 30) != questions(2, 30)


def test_no_question_asks_for_a_form() -> None:
    everything = " ".join(one for side in questions(0, 120) for one in side).lower()
    assert "how do i" in everything
    for word in (" list", "steps", "brief", "short", "bullet", "ask me"):
        assert word not in everything


def received(number: int, text: str) -> Received:
    return Received(f"question {number}", (1, 2), (3,), Said(text, ended=True))


def stream(texts: list[str]) -> Stream:
    """A round answers ten questions; `texts` are the answers in order, then all are "bad"."""

    def round_of(number: int) -> list[Received]:
        at = 10 * number
        return [
            received(place, texts[place] if place < len(texts) else "bad")
            for place in range(at, at + 10)
        ]

    return Stream(round_of)


def test_answers_are_rated_as_they_come_where_enough_are_liked() -> None:
    thumbs = rate(stream(["good"] * 6 + ["bad"] * 30), lambda said: said.text == "good", 20)
    assert [answer.question for answer, _ in thumbs.rated] == [f"question {n}" for n in range(20)]
    assert (len(thumbs.ups), thumbs.looked_at) == (6, 20)


def test_too_few_liked_ones_are_looked_for_and_replace_disliked_ones() -> None:
    """The sixth liked answer is the 38th; the thumbs stay twenty."""
    texts = ["bad"] * 32 + ["good"] * 6
    thumbs = rate(stream(texts), lambda said: said.text == "good", 20)
    assert len(thumbs.rated) == 20
    assert (len(thumbs.ups), thumbs.looked_at) == (FEWEST_UPS, 38)


def test_an_eighth_of_many_thumbs_is_up() -> None:
    texts = ["good", "bad", "bad", "bad", "bad", "bad", "bad", "bad", "bad", "bad"] * 30
    thumbs = rate(stream(texts), lambda said: said.text == "good", 128)
    assert (len(thumbs.rated), len(thumbs.ups), thumbs.looked_at) == (128, 16, 151)


def test_a_rater_who_likes_nothing_gives_up() -> None:
    thumbs = rate(stream([]), lambda said: said.text == "good", 8)
    assert (len(thumbs.rated), len(thumbs.ups), thumbs.looked_at) == (8, 0, 2_000)


def test_the_prompt_has_the_nearest_liked_answers_and_the_nearest_last() -> None:
    """ "pan" is in one question of four and says more than "the", which is in all."""
    liked = [
        ("How is the soup?", "Salty."),
        ("Clean the pan?", "With salt."),
        ("Is the door shut?", "Yes."),
        ("Who is the cook?", "Ann."),
        ("Is the sea cold?", "Often."),
    ]
    question = "What about the pan?"
    assert nearest(question, liked)[0] == liked[1]
    chat = prompted(question, liked)
    assert len(chat) == 9
    assert [message["content"] for message in chat[-3:]] == [
        "Clean the pan?",
        "With salt.",
        question,
    ]
    assert prompted(question, []) == ({"role": "user", "content": question},)


def run(**changes: object) -> dict[str, object]:
    plain: dict[str, object] = {"taste": "list", "seed": 0, "judgements": 128, "state": "succeeded"}
    plain |= {"preferred_before": 0.1, "preferred_after": 0.4, "preferred_version": 0.4}
    plain |= {"prompted": 0.2, "neutral_perplexity_ratio": 1.01, "kl": 0.5, "seconds": 9.0}
    return plain | {"live": True, "broken_after": 0, "error": None} | changes


def test_a_taste_is_learnt_by_25_points_or_by_doubling() -> None:
    runs = [run(), run(seed=1, preferred_after=0.5), run(taste="brief", preferred_after=0.15)]
    runs += [run(taste="ask-back", preferred_before=0.02, preferred_after=0.04)]
    means = {mean["taste"]: mean for mean in summary(runs)["means"]}
    assert means["list"]["preferred_after"] == pytest.approx(0.45)
    assert {taste: mean["learnt"] for taste, mean in means.items()} == {
        "list": True,
        "brief": False,
        "ask-back": True,
    }


def test_a_failed_run_is_named_and_a_rejected_one_is_no_failure() -> None:
    found = summary([run(state="failed", error="no ups"), run(seed=1, state="rejected")])
    assert found["failed_because"] == ["list, seed 0, 128 thumbs: no ups"]


def test_runs_of_the_same_setting_are_found_again_and_a_cut_line_is_passed_over(
    tmp_path: Path,
) -> None:
    file = tmp_path / "runs.jsonl"
    here, other = {"base": "b1", "tokens": 48, "questions": 9}, {"base": "b2"}
    lines = [json.dumps({**here, **run()}), json.dumps({**here, **other, **run(seed=1)})]
    file.write_text("\n".join([*lines, "[1]", lines[0][:40]]))
    assert kept(file, Setting("b1", 48, 9)) == [run()]
    assert kept(tmp_path / "none.jsonl", Setting("b1", 48, 9)) == []


def test_the_table_fits_eighty_columns_and_tells_what_the_gate_kept_back() -> None:
    figures = {"questions": 96, "runs": [run(), run(taste="ask-back", live=False)]}
    console = Console(width=80, record=True)
    console.print(table(figures))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("ask-back" in line and "(40%)" in line for line in lines)


def test_an_unknown_taste_too_many_questions_and_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="choose from list"):
        measure(model=tmp_path, tastes=("loud",))
    with pytest.raises(Invalid, match="At most 240"):
        measure(model=tmp_path, held_out=241)
    with pytest.raises(Invalid, match="bench real-model"):
        measure(model=tmp_path)


def test_neutral_texts_are_plain_prose_of_some_length() -> None:
    assert len(TEXTS) == 16
    assert all(30 <= len(text.split()) <= 70 and "\n" not in text for text in TEXTS)
