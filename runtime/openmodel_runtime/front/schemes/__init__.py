"""The three known ways to name the tensors of a generation, a module each, and which of them a request uses."""
