"""A training run: when one is due, what it trains, its steps."""
