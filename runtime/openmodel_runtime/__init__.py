"""The model server: a front process that speaks gRPC, and rank processes that compute.

Knows checkpoints, requests and tensors. Knows no Kubernetes: it is told everything by flags and serves the same way
on a laptop and in a pod.
"""

__version__ = "0.1.0"
