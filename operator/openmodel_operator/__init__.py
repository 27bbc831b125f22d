"""The operator: turns each OpenModel into pods that serve it, and tells the truth about them.

Knows Kubernetes and the shape of models; never imports torch, and talks to the runtime only by its flags and by gRPC.
"""

__version__ = "0.1.0"
