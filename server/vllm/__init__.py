"""All that touches vLLM, and nothing else does."""
