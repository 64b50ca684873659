"""Tenants, keys, adapters, versions, artifacts: who may use which weights, and what is live."""
