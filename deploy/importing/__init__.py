"""Judgements made elsewhere, from files to a server."""
