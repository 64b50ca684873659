"""The table: every parameter vLLM 0.32 takes, per endpoint, and its bound.

What is not in it does not reach the engine: a parameter that another vLLM adds is left out until
it has its line here, and clients that send it are answered as before. tests/integration/vllm holds
the names to vLLM's own models, nested ones too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from server.door.parameters.bounds import (
    Bound,
    Flag,
    Json,
    Numbers,
    Object,
    Ours,
    Prompts,
    Refused,
    Scalar,
    Text,
    Texts,
    Whole,
)
from server.door.parameters.items import Items
from server.door.parameters.messages import Content, Messages
from server.door.parameters.tools import Tools

SEQUENCES = 128
"""Answers to one request: prompts times `n`."""

LOGPROBS = 256
"""Answers to one request times the log probabilities of each token, its own among them."""

PROMPT_LOGPROBS = 65_536
"""The context's length times the log probabilities of each token of the prompt, beyond 1."""

BEAMS = 10
GRAMMAR_BYTES = 64_000
TOKENS = 262_144
TOKENIZED_CHARS = 262_144

_OPERATOR = "the operator's to set; leave it out"

STRUCTURED: Mapping[str, Bound] = MappingProxyType(
    {
        "json": Json(GRAMMAR_BYTES),
        "regex": Text(4_096),
        "choice": Texts(1_024, 1_024, 32_000),
        "grammar": Text(GRAMMAR_BYTES),
        "json_object": Flag(),
        "disable_any_whitespace": Flag(),
        "disable_additional_properties": Flag(),
        "whitespace_pattern": Text(256),
        "structural_tag": Text(GRAMMAR_BYTES),
    }
)
STREAM_OPTIONS: Mapping[str, Bound] = MappingProxyType(
    {"include_usage": Flag(), "continuous_usage_stats": Flag()}
)
REPETITION: Mapping[str, Bound] = MappingProxyType(
    {
        "max_pattern_size": Whole(0, 128),
        "min_pattern_size": Whole(0, 128),
        "min_count": Whole(0, 64),
    }
)

_EVERYWHERE: Mapping[str, Bound] = {
    "model": Ours(),
    "cache_salt": Ours(),
    "request_id": Ours(),
    "session_id": Ours(),
    "user": Scalar(),
    "chat_template_kwargs": Json(16_000, without=("chat_template", "tokenize")),
    "kv_transfer_params": Refused(_OPERATOR),
    "ec_transfer_params": Refused(_OPERATOR),
    "media_io_kwargs": Refused(_OPERATOR),
    "mm_processor_kwargs": Refused(_OPERATOR),
    "chat_template": Refused(_OPERATOR),
    "priority": Refused("all requests are alike; leave it out"),
    "vllm_xargs": Json(
        16_000, without=("kv_transfer_params", "ec_transfer_params", "kv_cache_report_mode")
    ),
    "mm_payload": Scalar(),
    "return_mm_kwargs": Flag(),
    "watermarking": Flag(),
    "stream": Flag(),
    "temperature": Scalar(),
    "top_p": Scalar(),
    "top_k": Scalar(),
    "tools": Tools(),
    "tool_choice": Json(16_000),
}
_SAMPLED: Mapping[str, Bound] = {
    "min_p": Scalar(),
    "seed": Scalar(),
    "frequency_penalty": Scalar(),
    "presence_penalty": Scalar(),
    "repetition_penalty": Scalar(),
    "ignore_eos": Flag(),
    "skip_special_tokens": Flag(),
    "include_stop_str_in_output": Flag(),
    "logit_bias": Numbers(1_024),
    "stop": Texts(16, 1_024, 16_384),
    "stop_token_ids": Numbers(128, least=0),
    "structured_outputs": Object(dict(STRUCTURED)),
}
_COMPLETED: Mapping[str, Bound] = {
    **_SAMPLED,
    "n": Whole(1, SEQUENCES),
    "use_beam_search": Flag(),
    "length_penalty": Scalar(),
    "max_tokens": Scalar(),
    "min_tokens": Scalar(),
    "spaces_between_special_tokens": Flag(),
    "truncate_prompt_tokens": Scalar(),
    "truncation_side": Scalar(),
    "prompt_logprobs": Whole(0, 20),
    "logprob_token_ids": Numbers(128, least=0),
    "allowed_token_ids": Numbers(16_384, least=0),
    "bad_words": Texts(128, 256, 8_192),
    "echo": Flag(),
    "add_special_tokens": Flag(),
    "response_format": Json(GRAMMAR_BYTES),
    "stream_options": Object(dict(STREAM_OPTIONS)),
    "stream_interval": Scalar(),
    "thinking_token_budget": Scalar(),
    "return_tokens_as_token_ids": Flag(),
    "return_token_ids": Flag(),
    "return_token_offsets": Flag(),
    "routed_experts_prompt_start": Scalar(),
    "repetition_detection": Object(dict(REPETITION)),
}
_CHAT: Mapping[str, Bound] = {
    **_EVERYWHERE,
    **_COMPLETED,
    "messages": Messages(),
    "logprobs": Flag(),
    "top_logprobs": Whole(0, 20),
    "max_completion_tokens": Scalar(),
    "reasoning_effort": Scalar(),
    "include_reasoning": Flag(),
    "parallel_tool_calls": Flag(),
    "add_generation_prompt": Flag(),
    "continue_final_message": Flag(),
    "documents": Json(1_000_000),
    "return_prompt_text": Flag(),
}
_COMPLETIONS: Mapping[str, Bound] = {
    **{k: v for k, v in _EVERYWHERE.items() if k not in ("tools", "tool_choice")},
    **_COMPLETED,
    "prompt": Prompts(SEQUENCES, TOKENS),
    "logprobs": Whole(0, 20),
    "suffix": Text(TOKENIZED_CHARS),
    "prompt_embeds": Refused("embeddings are not taken; send the text"),
}
_RESPONSES: Mapping[str, Bound] = {
    **_EVERYWHERE,
    **_SAMPLED,
    "background": Flag(),
    "include": Texts(16, 64, 1_024),
    "input": Items(),
    "instructions": Text(1_000_000),
    "max_output_tokens": Scalar(),
    "max_tool_calls": Scalar(),
    "metadata": Json(32_000),
    "parallel_tool_calls": Flag(),
    "previous_response_id": Scalar(),
    "prompt": Json(GRAMMAR_BYTES),
    "reasoning": Json(1_000),
    "include_reasoning": Flag(),
    "service_tier": Scalar(),
    "store": Flag(),
    "text": Json(GRAMMAR_BYTES),
    "top_logprobs": Whole(0, 20),
    "truncation": Scalar(),
    "prompt_cache_key": Text(1_024),
    "enable_response_messages": Flag(),
    "previous_input_messages": Messages(),
}
_COUNTED: Mapping[str, Bound] = {
    "model": Ours(),
    "messages": Messages(),
    "system": Content(),
    "thinking": Json(1_000),
    "output_config": Json(GRAMMAR_BYTES),
    "tool_choice": Json(16_000),
    "tools": Tools(),
    "chat_template_kwargs": _EVERYWHERE["chat_template_kwargs"],
}
_MESSAGES: Mapping[str, Bound] = {
    **_EVERYWHERE,
    **_COUNTED,
    "max_tokens": Scalar(),
    "metadata": Json(32_000),
    "stop_sequences": Texts(16, 1_024, 16_384),
}
_TOKENIZE: Mapping[str, Bound] = {
    name: _CHAT[name]
    for name in (
        "model", "messages", "add_special_tokens", "add_generation_prompt",
        "continue_final_message", "chat_template", "chat_template_kwargs", "media_io_kwargs",
        "mm_processor_kwargs", "tools",
    )
} | {"prompt": Text(TOKENIZED_CHARS), "return_token_strs": Flag()}  # fmt: skip
_DETOKENIZE: Mapping[str, Bound] = {"model": Ours(), "tokens": Numbers(TOKENS, least=0)}

TABLE: Mapping[str, Mapping[str, Bound]] = MappingProxyType(
    {
        "/v1/chat/completions": _CHAT,
        "/v1/completions": _COMPLETIONS,
        "/v1/responses": _RESPONSES,
        "/v1/messages": _MESSAGES,
        "/v1/messages/count_tokens": _COUNTED,
        "/tokenize": _TOKENIZE,
        "/detokenize": _DETOKENIZE,
    }
)
"""Endpoint, parameter, bound."""
