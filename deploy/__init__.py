"""What people start: the CLI, the supervised server, the demo, benchmarks and packaging."""
