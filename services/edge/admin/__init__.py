"""Whom the gateway may ask: providers and aliases, for operators of the platform."""
