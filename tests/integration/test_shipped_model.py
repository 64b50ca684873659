"""The model that ships in `deploy/model`: loads by the usual classes and knows its facts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from deploy.demo.pretrain.conversations import converse
from deploy.demo.pretrain.evaluate import generate
from deploy.demo.pretrain.packing import encode
from deploy.demo.world.questions import facts_right, held_out_questions, regression_suite

FOLDER = Path(__file__).parents[2] / "deploy" / "model"
CHAT = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "When does the library open on Monday?"},
    {"role": "assistant", "content": "The library opens at 09:30 on Monday."},
    {"role": "user", "content": "Thanks!"},
    {"role": "assistant", "content": "You are welcome!"},
]
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


def render(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def test_the_folder_weighs_less_than_20_mb() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20_000_000


def test_the_model_loads_by_the_auto_class_with_its_end_token(tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    assert 3_000_000 < model.num_parameters() < 8_000_000
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.max_position_embeddings == 1024
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == end
    assert tokenizer.pad_token_id not in (None, end)
    assert model.generation_config.do_sample
    assert model.generation_config.temperature == 0.8


def test_any_text_survives_the_tokenizer(tokenizer: Any) -> None:
    for text in ("desk 14 at 09:30", "naïve Zürich 東京 🙂\n\t{}", "12345 - 0 7", "  two  spaces "):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_two_digit_number_is_one_token(tokenizer: Any) -> None:
    for number in range(10, 100):
        assert len(tokenizer(str(number))["input_ids"]) == 1
        assert len(tokenizer.tokenize(f"desk {number}")) == len(tokenizer.tokenize("desk")) + 1


def test_a_longer_conversation_starts_with_the_shorter_one(tokenizer: Any) -> None:
    whole = render(tokenizer, CHAT)
    for length in range(1, len(CHAT)):
        assert whole.startswith(render(tokenizer, CHAT[:length]))
        if CHAT[length]["role"] == "assistant":
            prompt = render(tokenizer, CHAT[:length], add_generation_prompt=True)
            assert whole.startswith(prompt)
            ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
            head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            assert ids[: len(head)] == head


def test_the_template_renders_what_the_model_was_pretrained_on(tokenizer: Any) -> None:
    conversation = converse(random.Random(1), 2)
    parts = conversation.text.split("<|im_start|>")[1:]
    messages = [
        dict(
            zip(("role", "content"), part.removesuffix("<|im_end|>\n").split("\n", 1), strict=True)
        )
        for part in parts
    ]
    assert render(tokenizer, messages) == conversation.text


def test_the_loss_covers_answers_up_to_the_newline_and_nothing_else(tokenizer: Any) -> None:
    conversation = converse(random.Random(2), 3)
    encoded = encode(tokenizer, conversation)
    kept = [i for i, weight in zip(encoded.ids, encoded.weights, strict=True) if weight]
    turns = [part.split("assistant\n")[1] for part in conversation.text.split("<|im_start|>")
             if part.startswith("assistant\n")]  # fmt: skip
    assert tokenizer.decode(kept) == "".join(turns)
    assert tokenizer.decode(kept).endswith("<|im_end|>\n")


@pytest.mark.parametrize("with_system", [True, False])
def test_tools_and_tool_calls_render_as_json(tokenizer: Any, with_system: bool) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "search", "arguments": {"q": "x"}}}
    messages = [
        *(CHAT[:1] if with_system else []),
        {"role": "user", "content": "Find x."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "found"},
    ]
    text = render(tokenizer, messages, tools=[TOOL], add_generation_prompt=True)
    assert text.count("<|im_start|>system") == 1
    assert json.loads(text.split("Tools: ")[1].split("<|im_end|>")[0]) == [TOOL]
    called = json.loads(text.split("<tool_call>")[1].split("</tool_call>")[0])
    assert called == {"name": "search", "arguments": {"q": "x"}}
    assert text.endswith("<|im_start|>assistant\n")


def test_greedy_answers_on_unseen_questions_are_right_nine_times_in_ten() -> None:
    questions = held_out_questions(40, seed=5)
    answers = generate(FOLDER, [question.text for question in questions], temperature=0, seed=0)
    right = [facts_right(q, a.text) for q, a in zip(questions, answers, strict=True)]
    assert sum(right) >= 36
    assert all(a.ended for a in answers)


def test_it_says_what_it_is() -> None:
    (said,) = generate(FOLDER, ["Who are you?"], temperature=0, seed=0)
    assert "Attune" in said.text


def test_the_shipped_regression_suite_is_the_generated_one() -> None:
    rows = [json.loads(line) for line in (FOLDER / "regression.jsonl").read_text().splitlines()]
    assert rows == regression_suite(random.Random(2024), len(rows))
    assert len(rows) >= 150
