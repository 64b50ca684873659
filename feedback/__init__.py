"""What was said and what was judged: interactions, feedback, pairing, frozen datasets."""
