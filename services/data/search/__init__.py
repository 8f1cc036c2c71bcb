"""Finding conversations by words in them.

domain     types, rules, the use case
store      `Store` on Postgres
"""
