"""Providers and aliases that operators keep: `providers` and `aliases` have the rules, `store` the rows, `keeper` brings them to life."""
