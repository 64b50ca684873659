"""The table of parameters holds what vLLM's own models take, nested ones too: another vLLM with
another parameter fails here, and whoever moves to it decides on its bound."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from openai.types.responses import ResponseFormatTextJSONSchemaConfig, ResponseTextConfig
from vllm.entrypoints.anthropic.protocol import (
    AnthropicContentBlock,
    AnthropicCountTokensRequest,
    AnthropicJsonOutputFormat,
    AnthropicMessagesRequest,
    AnthropicOutputConfig,
    AnthropicTool,
    AnthropicToolChoice,
)
from vllm.entrypoints.generate.base.protocol import (
    FunctionDefinition,
    JsonSchemaResponseFormat,
    LegacyStructuralTagResponseFormat,
    ResponseFormat,
    StreamOptions,
    StructuralTagResponseFormat,
)
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionToolsParam,
)
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.tokenize.protocol import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)
from vllm.renderers.chat_utils import MM_PARSER_MAP
from vllm.sampling_params import RepetitionDetectionParams, StructuredOutputsParams

from server.door.parameters.table import REPETITION, STREAM_OPTIONS, STRUCTURED, TABLE

MODELS: dict[str, tuple[Any, ...]] = {
    "/v1/chat/completions": (ChatCompletionRequest,),
    "/v1/completions": (CompletionRequest,),
    "/v1/responses": (ResponsesRequest,),
    "/v1/messages": (AnthropicMessagesRequest,),
    "/v1/messages/count_tokens": (AnthropicCountTokensRequest,),
    "/tokenize": (TokenizeChatRequest, TokenizeCompletionRequest),
    "/detokenize": (DetokenizeRequest,),
}
OURS = {"cache_salt", "request_id"}
"""What the server adds to every body; not every endpoint takes it."""


def names(*models: Any) -> set[str]:
    return {name for model in models for name in model.model_fields}


@pytest.mark.parametrize("path", sorted(TABLE))
def test_every_parameter_of_every_endpoint_is_in_the_table(path: str) -> None:
    assert names(*MODELS[path]) - TABLE[path].keys() == set(), "decide on a bound for these"
    assert MODELS.keys() == TABLE.keys()


@pytest.mark.parametrize("path", sorted(TABLE))
def test_nothing_in_the_table_is_gone_from_vllm(path: str) -> None:
    everywhere = names(*(model for models in MODELS.values() for model in models))
    assert TABLE[path].keys() - everywhere == set()


def test_the_fields_of_nested_objects_are_those_that_are_bounded() -> None:
    structured = {f.name for f in fields(StructuredOutputsParams) if f.init}
    assert structured == STRUCTURED.keys()
    assert {f.name for f in fields(RepetitionDetectionParams)} == REPETITION.keys()
    assert names(StreamOptions) == STREAM_OPTIONS.keys()


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (ResponseFormat, {"type", "json_schema"}),
        (StructuralTagResponseFormat, {"type", "format"}),
        (LegacyStructuralTagResponseFormat, {"type", "structures", "triggers"}),
        (JsonSchemaResponseFormat, {"name", "description", "json_schema", "strict"}),
        (ResponseTextConfig, {"format", "verbosity"}),
        (ResponseFormatTextJSONSchemaConfig,
         {"name", "schema_", "type", "description", "strict"}),
        (AnthropicOutputConfig, {"effort", "format"}),
        (AnthropicJsonOutputFormat, {"json_schema", "type"}),
        (ChatCompletionToolsParam, {"type", "function", "defer_loading"}),
        (FunctionDefinition, {"name", "description", "parameters", "strict", "defer_loading"}),
        (AnthropicTool, {"name", "description", "input_schema", "strict", "defer_loading"}),
        (AnthropicToolChoice, {"type", "name", "disable_parallel_tool_use"}),
        (AnthropicContentBlock, {
            "type", "text", "source", "id", "tool_use_id", "name", "input", "content", "is_error",
            "tool_name", "thinking", "signature", "data", "tool"}),
    ],
)  # fmt: skip
def test_where_grammars_and_tools_stand_is_where_we_look(model: Any, known: set[str]) -> None:
    """Each way to ask for a grammar must be read by `server/door/parameters/grammars.py`."""
    assert names(model) == known


def test_the_kinds_of_parts_with_media_are_those_that_are_looked_into() -> None:
    text = {"text", "thinking", "input_text", "output_text", "refusal", "tool_reference"}
    media = {"input_image", "image_url", "audio_url", "video_url", "input_audio"}
    embedded = {"image_embeds", "audio_embeds", "video_embeds", "prompt_embeds", "image_pil"}
    assert MM_PARSER_MAP.keys() == text | media | embedded
