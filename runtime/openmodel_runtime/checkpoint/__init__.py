"""Reading of Hugging Face checkpoints: what the files say, and whether they are sound."""
