"""What models have cost: one's own usage, everybody's, and the budgets over it."""
