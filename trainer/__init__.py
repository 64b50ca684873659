"""Training runs: triggers, methods, evaluation, gate. Meets the server only in the database."""
