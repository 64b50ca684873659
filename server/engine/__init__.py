"""Adapters in the engine: which are loaded, who uses them, who waits."""
