"""The subcommands of `attune`, one module a noun."""
