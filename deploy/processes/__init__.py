"""Processes that are started and watched: server, trainer."""
