"""The demo: an invented town, simulated people who rate answers, and the shipped model."""
