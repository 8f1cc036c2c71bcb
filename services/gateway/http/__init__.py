"""HTTP/1.1 to providers, as little of it as streams of answers need: `connection` speaks it, `pool` keeps connections warm."""
