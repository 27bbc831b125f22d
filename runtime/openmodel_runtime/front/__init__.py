"""The front of a pod: gRPC in and out, text to tokens and back.

Knows the protocol and text; never imports torch, so that it starts fast and never waits for a step.
"""
