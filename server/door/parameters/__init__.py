"""Every parameter the engine takes, and within what bounds a request may set it. Pure.

`bounds` are kinds of limits, `messages` and `tools` two that look inside, `table` says which
parameter of which endpoint has which, `check` holds a body to it, `grammars` finds what a body
wants its answer to fit. Must not know the engine: a test of the engine holds the table to it.
"""
