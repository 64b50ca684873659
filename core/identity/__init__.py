"""Who calls: tenants, their keys, and the secret that signs completion ids."""
