"""Where weights and snapshots lie: by digest, on disk or at any fsspec URL."""
