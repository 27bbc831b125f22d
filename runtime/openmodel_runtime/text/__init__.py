"""The checkpoint's own way from prompts and conversations to tokens, and back."""
