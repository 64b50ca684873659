"""Pairs of answers that people judged, and two ways to learn from them side by side."""
