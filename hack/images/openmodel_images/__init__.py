"""Makes OpenModel's container images and puts them into a registry, without a container engine.

Knows how layers, manifests and the distribution HTTP API look. Does not know Kubernetes, the
cluster in `hack/cluster`, or what the packaged programs do.
"""
