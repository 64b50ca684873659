"""Owns the chat format: special tokens and the ChatML template saved with the tokenizer.

Every message renders on its own, so a longer conversation always starts with the text of a
shorter one, as TRL requires. Must not know: the tokenizer's vocabulary, torch.
"""

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"

CHAT_TEMPLATE = """\
{%- if tools and messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nTools: ' + (tools | tojson) + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') -}}
{%- if loop.first and tools and message['role'] == 'system' -%}
{{- '\\nTools: ' + (tools | tojson) -}}
{%- endif -%}
{%- for call in message['tool_calls'] or [] -%}
{%- set call = call['function'] or call -%}
{%- set arguments = call['arguments'] -%}
{%- set arguments = arguments if arguments is string else (arguments | tojson) -%}
{{- '<tool_call>{"name": "' + call['name'] + '", "arguments": ' + arguments + '}</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def turn(role: str, content: str) -> str:
    """One message as `CHAT_TEMPLATE` renders it."""
    return f"{START}{role}\n{content}{END}\n"
