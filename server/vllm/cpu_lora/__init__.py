"""LoRA arithmetic for CPUs in place of vLLM's own."""
