"""What vLLM 0.32 makes of messages before its chat template sees them, found out once at start.

Uses of vLLM's internals: `renderers.hf.resolve_chat_template`, `_detect_developer_role_support` and
`resolve_chat_template_content_format`, and the messages handler's `_merge_inline_system`.
"""

from __future__ import annotations

from typing import Any

from starlette.datastructures import State
from vllm.renderers.hf import (
    HfRenderer,
    _detect_developer_role_support,
    resolve_chat_template,
    resolve_chat_template_content_format,
)

from server.chat_template import PLAIN_TEMPLATE, ChatTemplate


def template_of(state: State) -> ChatTemplate:
    """Of the running server; where the model has no template of Jinja's, the plain one."""
    online: Any = state.online_renderer
    tokenizer = online.renderer.tokenizer
    if not isinstance(online.renderer, HfRenderer) or tokenizer is None:
        return PLAIN_TEMPLATE
    named, config = online.chat_template, online.model_config
    written = resolve_chat_template(tokenizer, named, None, model_config=config)
    content_format = resolve_chat_template_content_format(
        named, None, online.chat_template_content_format, tokenizer, model_config=config
    )
    return ChatTemplate(
        joins_parts=content_format == "string",
        knows_developer=written is not None and _detect_developer_role_support(written),
        system_first=state.anthropic_serving_messages._merge_inline_system,
    )
