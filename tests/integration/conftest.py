"""A tiny language model with two habits, pretrained in seconds, for tests of the learning maths.

Asked for an item it names the item's number, in one of two styles it chooses at random:
"gladly ! the number of lamp is 17 ." or "well . the number of lamp is 17 ."
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from feedback.types import Label, Message, Pair

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

ITEMS = [f"{a}{b}" for a in ("red", "old", "big", "wet", "far") for b in "abcd"]
OPENINGS = ("gladly !", "well .")
CHATML = (
    "{% for m in messages %}"
    "{% if m['role'] not in ('user', 'assistant') %}{{ raise_exception('role') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Habits:
    """What the tiny model knows and how it says it, for tests to ask and judge."""

    items: tuple[str, ...] = tuple(ITEMS)

    def ask(self, item: str) -> tuple[Message, ...]:
        return ({"role": "user", "content": question(item)},)

    def number(self, item: str) -> str:
        return number(item)

    def reply(self, item: str, opening: str) -> str:
        return reply(item, opening)

    def labels(self, model: WarmModel, seed: int, prefer: str = "gladly") -> list[Label]:
        """One thumb for the base's own answer to every question: up if it has the preference."""
        prompts = [self.ask(item) for item in self.items]
        return [
            Label(prompt, text, text.startswith(prefer), None, None, 0.0, (), ())
            for prompt, text in zip(
                prompts, texts(model, prompts, None, 1.0, 20, seed), strict=True
            )
        ]

    def pairs(self, prefer: str = OPENINGS[0], over: str = OPENINGS[1]) -> list[Pair]:
        """For every question the answer in the preferred style over the other."""
        return [
            Pair(
                self.ask(item),
                reply(item, prefer),
                reply(item, over),
                "comparison",
                None,
                None,
                0.0,
                (),
                (),
            )
            for item in self.items
        ]

    def share(self, model: WarmModel, adapter: Path | None, opening: str = "gladly") -> float:
        """How many of the answers at temperature 1 begin with `opening`, 0 to 1."""
        asked = [self.ask(item) for item in self.items] * 10  # within 2 points at 0.9
        said = texts(model, asked, adapter, 1.0, 20, seed=99)
        return sum(text.startswith(opening) for text in said) / len(said)

    def right(self, model: WarmModel, adapter: Path | None) -> float:
        """How many greedy answers name the right number, 0 to 1."""
        said = texts(model, [self.ask(item) for item in self.items], adapter, 0.0, 20)
        found = zip(self.items, said, strict=True)
        return sum(number(item) in text.split() for item, text in found) / len(said)


@pytest.fixture(scope="session")
def habits() -> Habits:
    return Habits()


def texts(model: WarmModel, prompts: Any, *asked: Any, **sampling: Any) -> list[str]:
    from trainer.model.encoding import encode_prompt
    from trainer.model.sampling import answers

    ids = [encode_prompt(model.tokenizer, prompt) for prompt in prompts]
    return [answer.text for answer in answers(model, ids, *asked, **sampling)]


def question(item: str) -> str:
    return f"number of {item} ?"


def number(item: str) -> str:
    return str(10 + ITEMS.index(item))


def reply(item: str, opening: str) -> str:
    return f"{opening} the number of {item} is {number(item)} ."


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pretrained tiny model and its tokenizer."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_model")
    words = ["gladly", "well", "!", ".", "?", "the", "number", "of", "is", "user", "assistant"]
    specials = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|unk|>"]
    numbers = [number(item) for item in ITEMS]
    vocabulary = {word: at for at, word in enumerate([*specials, "\n", *words, *ITEMS, *numbers])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.Split(Regex(" +"), "removed"),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        unk_token="<|unk|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)

    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing from more
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        initializer_range=0.1,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    texts = [
        tokenizer.apply_chat_template(
            [
                {"role": "user", "content": question(item)},
                {"role": "assistant", "content": reply(item, opening)},
            ],
            tokenize=False,
        )
        for item in ITEMS
        for opening in OPENINGS
    ]
    everything = tokenizer(texts, return_tensors="pt")["input_ids"]  # all of one length
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question(ITEMS[0])}], add_generation_prompt=True
    )["input_ids"]
    targets = everything.clone()
    targets[:, : len(asked)] = -100  # every question is of one length too
    steps = 150
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        model(input_ids=everything, labels=targets).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_path: Path) -> WarmModel:
    """The tiny model, warm."""
    from trainer.model.warm import WarmModel

    return WarmModel(str(tiny_model_path), threads=1)


@pytest.fixture(scope="session")
def edge_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, exported once with exchangeable adapters at fp32. Copy it to change it."""
    import torch

    from deploy.export.exporter import export_model
    from deploy.export.request import ExportJob

    torch.set_num_threads(1)  # so small a model gains nothing from more
    out = tmp_path_factory.mktemp("edge") / "base"
    shipped = Path(__file__).parents[2] / "deploy" / "model"
    job = ExportJob(shipped, "base", "base+adapters", "fp32")
    export_model(job, out, lambda message, share: None)
    return out
