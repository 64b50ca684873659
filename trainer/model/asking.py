"""The model as it is asked and scored: a copy in bfloat16 where the processor is quicker at that.

Owns the copy and how it attends to one new token. An engine serves in bfloat16 as well. Must not
know: what is asked, adapters' files.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trainer.model.precision import in_bfloat16

_ATTENTION = "attune_one_token"
_ELSEWHERE = ("position_bias", "cache")
"""What PyTorch's attention is left to where it is given."""
_SLACK = 2
"""Of the copy's bytes, what must be free: answers need room beside it."""


@contextmanager
def as_asked(policy: Any, device: torch.device, parameters: int, free_bytes: int) -> Iterator[Any]:
    """`policy`, a base model or one with adapters, or its copy to be asked with gradients off.

    It stays itself on GPUs, where it is in bfloat16 already, on processors without bfloat16, and
    where a copy of its `parameters` weights would not fit into `free_bytes`. A copy costs about a
    tenth of a second for 135 million weights, and does not follow what `policy` learns later.
    """
    worth_it = device.type == "cpu" and in_bfloat16(device, parameters, "auto")
    if not worth_it or _SLACK * 2 * parameters > free_bytes:
        yield policy
        return
    asked = _copied(policy)
    try:
        yield asked
    finally:
        # Models refer to themselves: their memory would be held until the next collection.
        for weight in asked.parameters():
            weight.data = weight.data.new_empty(0)


def _copied(policy: Any) -> Any:
    halves: dict[int, Any] = {
        id(weight): torch.nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        for weight in policy.parameters()
        if weight.dtype == torch.float32
    }
    asked = copy.deepcopy(policy, halves).eval()
    for module in asked.modules():
        # What TRL and accelerate put over a forward still runs the policy itself.
        module.__dict__.pop("forward", None)
    base = asked.get_base_model() if hasattr(asked, "get_base_model") else asked
    if base.config._attn_implementation == "sdpa":
        base.set_attn_implementation(_ATTENTION)
    if (head := base.get_output_embeddings()) is not None:
        # A slice of hidden states would have the head's weights copied once for every row.
        head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    return asked


def _attend(
    module: torch.nn.Module, query: Any, key: Any, value: Any, mask: Any, **given: Any
) -> tuple[Any, None]:
    """PyTorch's attention, but for one new token each head's keys are read once per group.

    query [b, h, t, d]; key and value [b, g, s, d]; returns [b, t, h, d]. For t = 1 on CPUs it is
    twice as quick as the fused kernel, which repeats keys and values for every head.
    """
    rows, heads, new, width = query.shape
    plain = mask is not None and mask.dtype == torch.bool
    if new != 1 or not plain or any(given.get(name) is not None for name in _ELSEWHERE):
        return sdpa_attention_forward(module, query, key, value, mask, **given)
    groups = key.shape[1]
    query = query.view(rows, groups, heads // groups, width)
    scores = (query @ key.transpose(2, 3)).float() * (given.get("scaling") or width**-0.5)
    scores = scores.masked_fill(~mask[:, :, -1:, : key.shape[2]], -torch.inf)
    found = scores.softmax(-1).to(value.dtype) @ value
    return found.reshape(rows, 1, heads, width), None


AttentionInterface.register(_ATTENTION, _attend)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
