"""How many groups a model has: what it is asked to do, what that calls for, and who writes the count."""
