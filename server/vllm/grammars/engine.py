"""What of vLLM 0.32 the trial of grammars relies on: the tokenizer as its backend sees it, its
spelling of choices, and its guess at a grammar's syntax. tests/integration/vllm pins them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from server.engine.grammars import Grammar
from server.vllm.grammars.process import GrammarProcess


def compiler_of(engine_client: Any, limit_s: float) -> GrammarProcess | None:
    """A compiler like the engine's own; None where that is not xgrammar, or there is no
    tokenizer."""
    config = engine_client.vllm_config
    tokenizer = getattr(engine_client.renderer, "tokenizer", None)
    if tokenizer is None or config.structured_outputs_config.backend != "xgrammar":
        return None
    return GrammarProcess(lambda: setup_of(config, tokenizer), spelled, limit_s=limit_s)


def setup_of(config: Any, tokenizer: Any) -> Mapping[str, Any]:
    """What the process must know of the engine."""
    from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

    backend = XgrammarBackend(config, tokenizer, config.model_config.get_vocab_size())
    # The compiler does not tell its tokenizer; what it compiles does.
    compiled = backend.compiler.compile_grammar('root ::= "a"')
    return {
        "tokenizer": compiled.tokenizer_info.serialize_json(),
        "tight_json": backend.disable_any_whitespace,
    }


def spelled(grammar: Grammar) -> tuple[str, str]:
    """The kind and text that xgrammar compiles for it."""
    from vllm.v1.structured_output.utils import choice_as_grammar, grammar_is_likely_lark

    if grammar.kind == "choice":
        choices = json.loads(grammar.text)
        return "ebnf", choice_as_grammar(choices if isinstance(choices, list) else [])
    if grammar.kind == "grammar":
        return "lark" if grammar_is_likely_lark(grammar.text) else "ebnf", grammar.text
    return grammar.kind, grammar.text
