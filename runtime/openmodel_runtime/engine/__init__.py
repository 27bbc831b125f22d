"""The engine of a rank: which tokens run next, running them, and what comes of it.

Knows token ids, never text; knows no gRPC and no socket.
"""
