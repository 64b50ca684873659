"""How a candidate is measured and judged."""
