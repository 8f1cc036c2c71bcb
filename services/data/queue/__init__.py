"""Runs that nobody owns: those that wait, those whose owner is gone, those that were given up.

domain     types, rules, use cases
store      `Store` on Postgres
"""
