"""Following the registry: what this server knows of it, and what it serves."""
