"""Durable work of any kind: its ledger in SQL, and what a kind of work is."""
