"""Uploads made plain: what people have becomes two files that say one thing to every reader."""
