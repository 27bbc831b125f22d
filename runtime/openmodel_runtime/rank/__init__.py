"""Rank processes: what runs in one, how the front talks to it, and how it is kept alive."""
