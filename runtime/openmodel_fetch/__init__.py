"""Looks at a checkpoint before anything serves it; opens no port and computes nothing with it."""
