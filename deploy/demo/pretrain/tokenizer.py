"""Owns the shipped tokenizer: byte-level BPE in which every number is read two digits at a time.

The chat template is the shipped folder's own: every message renders by itself, so a longer
conversation always starts with the text of a shorter one, as TRL requires. Must not know: the
model, torch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from core.settings import SHIPPED_MODEL
from deploy.demo.pretrain.conversations import END, PAD, START, converse

VOCAB_SIZE = 1792
MAX_TOKENS = 1024
CORPUS_CONVERSATIONS = 20_000


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A tokenizer trained on conversations drawn with `seed`; any text round-trips through it."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r" ?[0-9]{1,2}"), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=(SHIPPED_MODEL / "chat_template.jinja").read_text(),
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _corpus(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(CORPUS_CONVERSATIONS):
        yield converse(rng, 1).text
    for n in range(100):
        yield f"{n:02}.{n:02}" * 100
        yield f" {n:02}. {n:02}" * 100
