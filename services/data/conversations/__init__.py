"""Conversations of a user and the messages in them.

domain     types, rules, use cases
servicer   `parley.data.v1.ConversationService`
store      `Store` on Postgres
"""
