"""Operations on tensors that models are made of, in three forms of one interface.

`interface` says what an operation means; `reference` computes it in plain torch, `cpu` in code compiled for the
processor at hand, `triton` on a GPU; `select` chooses. Each form gives a row the same bits whatever rows, chunks,
threads or cached blocks stand beside it.

Knows tensors only: no checkpoint, no request, no rank, no Kubernetes.
"""
