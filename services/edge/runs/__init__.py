"""Runs: starting, watching and stopping them."""
