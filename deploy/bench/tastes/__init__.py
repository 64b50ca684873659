"""Simulated people who ask everyday questions and like a certain kind of answer."""
