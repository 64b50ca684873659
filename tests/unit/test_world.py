"""The invented town: every answer states its facts, wears its style, and held-out stays unseen."""

from __future__ import annotations

import ast
import hashlib
import json
import random
import re
import sys
from pathlib import Path

import pytest

from deploy.demo.world.questions import (
    STYLES,
    Question,
    answer,
    ask,
    contains_fact,
    facts_right,
    regression_suite,
    small_talk,
    split_of,
    style_of,
    system_prompt,
)
from deploy.demo.world.town import INTENTS, expand

DRAWS = 2000
WORLD = Path(__file__).parents[2] / "deploy" / "demo" / "world"


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    rng = random.Random(1)
    return [ask(rng, rng.choice(["train", "held_out"])) for _ in range(DRAWS)]


def test_there_are_at_least_fifty_intents_with_unlike_names_and_several_wordings() -> None:
    assert len({intent.name for intent in INTENTS}) == len(INTENTS) >= 50
    assert all(len(intent.asks) >= 4 and len(intent.says) >= 2 for intent in INTENTS)


def test_every_question_names_all_slots_and_every_sentence_all_facts() -> None:
    for intent in INTENTS:
        slots = set(intent.slots)
        assert all(set(re.findall(r"\{(\w+)\}", ask)) == slots for ask in intent.asks), intent
        facts = slots | set(intent.lookups)
        assert all(set(re.findall(r"\{(\w+)\}", say)) == facts for say in intent.says), intent


def test_every_style_states_the_same_facts(questions: list[Question]) -> None:
    rng = random.Random(2)
    for question in questions:
        for style in STYLES:
            text = answer(question, style, rng)
            assert all(fact in text for fact in question.facts), (question, text)
            assert facts_right(question, text), (question, text)


def test_style_of_inverts_answer_for_every_style(questions: list[Question]) -> None:
    rng = random.Random(3)
    for question in questions:
        assert [style_of(answer(question, style, rng)) for style in STYLES] == list(STYLES)


def test_the_bare_facts_and_small_talk_wear_no_style(questions: list[Question]) -> None:
    rng = random.Random(4)
    assert all(style_of(" ".join(question.facts)) is None for question in questions)
    assert all(style_of(small_talk(rng)[1]) is None for _ in range(200))


def test_two_styles_in_one_text_are_no_style(questions: list[Question]) -> None:
    rng = random.Random(5)
    mixed = answer(questions[0], STYLES[0], rng) + " " + answer(questions[0], STYLES[1], rng)
    assert style_of(mixed) is None


def test_styles_are_about_equally_long(questions: list[Question]) -> None:
    rng = random.Random(6)
    means = [
        sum(len(answer(question, style, rng).split()) for question in questions) / DRAWS
        for style in STYLES
    ]
    assert max(means) / min(means) < 1.15


def test_held_out_combinations_are_never_asked_in_training() -> None:
    rng = random.Random(7)
    seen = {(q.intent, q.slots) for q in (ask(rng, "train") for _ in range(20 * DRAWS))}
    unseen = {(q.intent, q.slots) for q in (ask(rng, "held_out") for _ in range(5 * DRAWS))}
    assert not seen & unseen
    assert all(split_of(intent, slots) == "held_out" for intent, slots in unseen)


def test_about_a_fifth_of_all_combinations_is_held_out() -> None:
    rng = random.Random(8)
    sides = [
        split_of(i.name, tuple((name, rng.choice(pool)) for name, pool in i.slots.items()))
        for i in INTENTS
        for _ in range(200)
    ]
    assert 0.17 < sides.count("held_out") / len(sides) < 0.23


def test_every_key_of_every_lookup_can_be_seen_in_training() -> None:
    for intent in INTENTS:
        first, second = intent.slots.items()
        pairs = [((first[0], a), (second[0], b)) for a in first[1] for b in second[1]]
        trained = [pair for pair in pairs if split_of(intent.name, pair) == "train"]
        for lookup in intent.lookups.values():
            wanted = {lookup.key(value) for value in intent.slots[lookup.slot]}
            seen = {lookup.key(dict(pair)[lookup.slot]) for pair in trained}
            assert seen == wanted, intent.name


def test_a_lookup_does_not_say_the_same_for_everything() -> None:
    for intent in INTENTS:
        for name, lookup in intent.lookups.items():
            keys = intent.slots[lookup.slot]
            values = {lookup.value(f"{intent.name}.{name}", key) for key in keys}
            assert len(values) > 1, intent.name


def test_any_altered_number_is_wrong(questions: list[Question]) -> None:
    rng = random.Random(9)
    for question in questions:
        text = answer(question, rng.choice(STYLES), rng)
        for match in re.finditer(r"\d\d", text):
            other = f"{(int(match[0]) + rng.randint(1, 98)) % 100:02}"
            altered = text[: match.start()] + other + text[match.end() :]
            assert not facts_right(question, altered), (text, altered)


def test_a_missing_or_swapped_fact_is_wrong(questions: list[Question]) -> None:
    rng = random.Random(10)
    for question in questions:
        text = answer(question, rng.choice(STYLES), rng)
        for fact in question.facts:
            assert not facts_right(question, text.replace(fact, "it")), (question, text)


def test_a_number_is_not_found_inside_a_longer_one() -> None:
    question = Question("Which desk?", "collect_item", (), ("desk 12",))
    assert facts_right(question, "Go to desk 12.")
    assert not contains_fact("Go to desk 123.", "desk 12")
    assert not facts_right(question, "Go to desk 123.")
    assert not facts_right(question, "Go to desk 12 or desk 15.")
    assert not contains_fact("It opens at 09:30.", "09")


def test_the_same_seed_asks_the_same_question() -> None:
    assert ask(random.Random(11), "train") == ask(random.Random(11), "train")


def test_the_town_is_the_one_the_shipped_model_learnt() -> None:
    """Every intent's whole content and what several seeds draw, as the model was trained on it."""
    seen: list[object] = [
        [
            [intent.name, intent.slots, intent.asks, intent.says],
            {
                name: [lookup.value(f"{intent.name}.{name}", v) for v in intent.slots[lookup.slot]]
                for name, lookup in intent.lookups.items()
            },
        ]
        for intent in INTENTS
    ]
    for seed in range(5):
        rng = random.Random(seed)
        for _ in range(100):
            question = ask(rng, rng.choice(["train", "held_out"]))
            seen.append([question.text, question.intent, question.slots, question.facts])
            seen.append([answer(question, style, rng) for style in STYLES])
            seen.append([small_talk(rng), system_prompt(rng)])
    digest = hashlib.sha256(json.dumps(seen).encode()).hexdigest()
    assert digest == "bf72ec1da6139bcd54f29a2cde1c07c93d5418343a685eaa6ab09bb805b9b180"


def test_a_pattern_stands_for_all_it_spells() -> None:
    assert expand("{15..25..5} minutes") == ("15 minutes", "20 minutes", "25 minutes")
    assert expand("order {B,D}{10..11}") == ("order B10", "order B11", "order D10", "order D11")
    assert expand("nothing") == ("nothing",)


def test_the_regression_suite_asks_only_what_was_held_out_and_has_both_kinds() -> None:
    rows = regression_suite(random.Random(12), 60)
    assert [row["kind"] for row in rows].count("format") == 5
    assert {row["kind"] for row in rows} == {"facts", "format"}
    assert all(row["must_contain"] for row in rows if row["kind"] == "facts")
    assert rows == regression_suite(random.Random(12), 60)


def test_the_world_needs_only_the_standard_library() -> None:
    for path in WORLD.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                own = node.module.startswith("deploy.demo.world")
                assert own or node.module.split(".")[0] in sys.stdlib_module_names, path
