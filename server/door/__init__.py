"""What stands before the engine: who may ask what, and of which weights."""
