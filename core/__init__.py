"""Settings, database, errors, ids, clock: what every package needs and none owns."""
