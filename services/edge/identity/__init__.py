"""Sign-up, sessions and keys, in the shapes of GoTrue."""
