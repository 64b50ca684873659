"""The base model as training and judging use it."""
