"""From what was said to what can be learnt: judgements, votes, pairs, frozen datasets."""
