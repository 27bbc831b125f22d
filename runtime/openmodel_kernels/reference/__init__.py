"""The operations in plain torch: what the compiled forms are tested against, and what serves without them."""
