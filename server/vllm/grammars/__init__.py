"""Grammars compiled as vLLM 0.32 compiles them with xgrammar, in a process that may be killed.

`process` is our end, `host` the process, `trial` what it does with one grammar, `engine` what of
vLLM they rely on. The process starts with the server: xgrammar takes seconds to import, a fork of
what has imported it milliseconds.
"""
