"""Money: what calls of models have used, and what may be used.

`meter` surrounds calls; `budgets` lets them in and settles them, by the counters in Redis (`counters`) or in Postgres; `ledger` writes
what they used, beside the tokens' way; `janitor` takes back what instances that are gone held; `servicer` answers `UsageService`.
"""
