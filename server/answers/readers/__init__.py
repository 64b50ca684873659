"""What was answered, read out of decoded response bodies and events: one module for each API."""
