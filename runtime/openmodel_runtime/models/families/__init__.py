"""One file a family: how its configuration is read, and what its checkpoints call things."""
