"""How Parley is run: on one machine (local)."""
