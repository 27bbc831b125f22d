"""Operations on tensors that models are made of.

Knows tensors only: no checkpoint, no request, no rank, no Kubernetes. What stands here is the torch reference;
faster paths for a device are added beside it and must agree with it.
"""
