"""Ranks that share a model: who holds which experts, and what they say to each other in a step."""
