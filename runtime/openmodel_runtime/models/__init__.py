"""Model families: one file a family beside shared blocks, and a registry by architecture.

A model knows tensors and where each sequence's cached keys and values are; it knows no request, no rank, no file.
"""
