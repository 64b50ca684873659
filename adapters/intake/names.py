"""Names of tensors as tools write them, and what they mean. Pure.

PEFT writes `base_model.model.<module>.lora_A.weight`. State dicts saved without PEFT's help keep
the adapter's name in it (`lora_A.default.weight`), wrappers of torch and FSDP, or lack the prefix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from core.errors import Invalid

PREFIX = "base_model.model."
Part = Literal["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"]

# What torch.compile, FSDP and activation checkpointing put between the names.
_WRAPPERS = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LORA = re.compile(
    r"(?P<module>[^/\\]+)\.(?:(?P<part>lora_[AB])(?:\.(?P<name>[A-Za-z0-9_-]+))?\.weight"
    r"|(?P<embedding>lora_embedding_[AB])(?:\.(?P<name2>[A-Za-z0-9_-]+))?)"
)
_COPY = re.compile(r"(?P<module>[^/\\]+?)(?:\.base_layer|\.original_module)?\.weight")
_EDITS = (
    ("lora_magnitude_vector", "is of DoRA: train with use_dora=False"),
    ("modules_to_save", "is of modules_to_save: name the module in target_modules instead"),
    ("lora_B.bias", "is of lora_bias: train with lora_bias=False"),
    (".bias", 'is a trained bias: train with bias="none"'),
    ("token_adapter", "is of trainable_token_indices: train without them"),
    ("lora_diag", "is of KaSA: train without kasa_config"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lora:
    """One matrix of a module's update."""

    module: str
    part: Part

    @property
    def tensor(self) -> str:
        """Its name as PEFT and vLLM read it."""
        embedding = self.part.startswith("lora_embedding")
        return f"{PREFIX}{self.module}.{self.part}" + ("" if embedding else ".weight")


@dataclass(frozen=True, slots=True)
class Copy:
    """A module's own weight, which PEFT writes beside the update of an embedding."""

    module: str


def meaning(tensor: str) -> Lora | Copy:
    """What a tensor is. Raises Invalid, naming the edit where there is one."""
    if len(tensor) <= 1000:
        bare = _bare(tensor)
        found = _LORA.fullmatch(bare)
        if found is not None:
            part: Part = found["part"] or found["embedding"]  # type: ignore[assignment]
            return Lora(found["module"], part)
        copy = _COPY.fullmatch(bare)
        if copy is not None and "lora_" not in bare and "modules_to_save" not in bare:
            return Copy(copy["module"])
    edit = next((f" It {edit}." for sign, edit in _EDITS if sign in tensor), "")
    raise Invalid(
        f"Unexpected tensor '{tensor[:200]}' in the adapter.{edit or _WANTED}", param="file"
    )


_WANTED = f" Names look like {PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight."


def _bare(tensor: str) -> str:
    """The name from the model's own first module on."""
    name = _WRAPPERS.sub("", tensor).removeprefix("module.")
    while name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
    return name
