"""Texts to vectors: `domain` has the rules, `cache` remembers, `upstream` asks providers, `local` makes them without any."""
