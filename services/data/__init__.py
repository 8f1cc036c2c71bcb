"""What was said: conversations, messages and runs, kept under row-level security.

conversations  conversations of a user and the messages in them
runs           one user message and what answers it: begin, checkpoint, finish
tenancy        what row-level security reads of a caller
readiness      waits for the schema
"""
