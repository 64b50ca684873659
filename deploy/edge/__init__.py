"""The device's side of an export: run it without a network, keep what was asked and said."""
