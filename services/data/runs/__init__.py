"""Runs: one user message and what answers it.

domain     types, rules, use cases
servicer   `parley.data.v1.RunService`
store      `Store` on Postgres
"""
