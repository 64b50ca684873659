"""Where weights, snapshots and exports lie: by digest, on disk or at any fsspec URL."""
