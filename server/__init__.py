"""Attune inside vLLM's OpenAI server: auth, routing, recording, swapping, feedback over HTTP."""
