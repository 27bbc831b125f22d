"""Other engines, each in an environment of its own.

`install` makes the environments, `process` runs an engine in one, `turns` measures it beside ours. `peer_*` and
`write_gguf` are what runs there: those modules import only what their environment has and the standard library.
"""
