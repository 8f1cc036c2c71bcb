"""Dialects of other systems' clients, a folder each: `openai`."""
