"""Adapters with absurd weights: their rows stay finite, and who left the bounds is known."""
