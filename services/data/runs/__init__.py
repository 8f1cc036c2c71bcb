"""Runs: one user message and what answers it.

domain     types, errors, rules that several calls share
starting   how a run begins
keeping    how it is kept, changes hands, is tried again, and ends
servicer   `parley.data.v1.RunService`
store      both `Store`s on Postgres
"""
