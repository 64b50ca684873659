"""A tiny language model with two habits, pretrained in seconds, for tests of the learning maths.

Asked for an item it names the item's number, in one of two styles it chooses at random:
"gladly ! the number of lamp is 17 ." or "well . the number of lamp is 17 ."
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

ITEMS = [f"{a}{b}" for a in ("red", "old", "big", "wet", "far") for b in "abcdefgh"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


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
    words = [*"gladly well ! . ? the number of is user assistant".split(), "\n"]
    specials = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|unk|>"]
    numbers = [number(item) for item in ITEMS]
    vocabulary = {word: at for at, word in enumerate(specials + words + ITEMS + numbers)}
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

    rng = random.Random(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing from more
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
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
    steps = 300
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        said = [(item, rng.choice(("gladly !", "well ."))) for item in rng.choices(ITEMS, k=32)]
        texts = [
            tokenizer.apply_chat_template(
                [
                    {"role": "user", "content": question(item)},
                    {"role": "assistant", "content": reply(item, opening)},
                ],
                tokenize=False,
            )
            for item, opening in said
        ]
        batch = tokenizer(texts, return_tensors="pt")["input_ids"]  # all of one length
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder
