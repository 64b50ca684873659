"""What was answered: read from the stream, recorded, and found again by its id."""
