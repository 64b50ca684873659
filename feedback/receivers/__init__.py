"""The ways feedback comes in; each turns its own wire format into one `Feedback`."""
