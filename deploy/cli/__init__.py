"""The `attune` command, one module a noun."""
