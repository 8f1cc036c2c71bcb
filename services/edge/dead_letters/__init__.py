"""Dead letters: background runs that were given up, for an operator to look at."""
