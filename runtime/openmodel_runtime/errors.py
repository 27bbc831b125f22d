"""Every error that a caller or an operator may see.

RuntimeFault
├── RequestError            the request ends with a gRPC status; the server goes on
│   ├── InvalidRequest      INVALID_ARGUMENT
│   ├── NotFound            NOT_FOUND
│   ├── Unsupported         UNIMPLEMENTED
│   ├── QueueFull           RESOURCE_EXHAUSTED
│   ├── OutOfMemory         RESOURCE_EXHAUSTED
│   ├── DeadlineExceeded    DEADLINE_EXCEEDED
│   ├── Unavailable         UNAVAILABLE
│   └── InternalError       INTERNAL
└── StartError              the model can not be served; the process ends with a termination message
    ├── CheckpointError     the files are missing, damaged or of a forbidden kind
    ├── UnsupportedModel    the files are sound, but nothing here can run them
    ├── InvalidSetting      a setting that this model can not have
    └── DoesNotFit          the model or its cache needs more memory than there is

Knows no gRPC: the front translates `code` by name.
"""

from __future__ import annotations


class RuntimeFault(Exception):
    """Base of all errors of the runtime."""


class RequestError(RuntimeFault):
    """Ends one request; `code` is the name of the gRPC status."""

    code = "UNKNOWN"


class InvalidRequest(RequestError):
    """The request can not be understood; the message names the field and the remedy."""

    code = "INVALID_ARGUMENT"


class NotFound(RequestError):
    """No such model, version or region."""

    code = "NOT_FOUND"


class Unsupported(RequestError):
    """A known feature that this server does not offer; the message names it."""

    code = "UNIMPLEMENTED"


class QueueFull(RequestError):
    """Too many requests are waiting."""

    code = "RESOURCE_EXHAUSTED"


class OutOfMemory(RequestError):
    """A step needed more memory than there is; the request that came last is given up for the others."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(RequestError):
    """The request's own timeout ran out."""

    code = "DEADLINE_EXCEEDED"


class Unavailable(RequestError):
    """The server starts, stops, or lost the rank that owned the request."""

    code = "UNAVAILABLE"


class InternalError(RequestError):
    """A fault of the server."""

    code = "INTERNAL"


class StartError(RuntimeFault):
    """The model can not be served; `reason` becomes the condition's reason, a restart would not help."""

    reason = "StartFailed"


class CheckpointError(StartError):
    """Files of the checkpoint are missing, damaged or of a forbidden kind."""

    reason = "InvalidCheckpoint"


class UnsupportedModel(StartError):
    """The checkpoint's architecture or format is not one that this runtime serves."""

    reason = "UnsupportedModel"


class InvalidSetting(StartError):
    """A setting that this model can not have; the message names it."""

    reason = "InvalidSpec"


class DoesNotFit(StartError):
    """The model or its cache needs more memory than there is."""

    reason = "InsufficientMemory"


EXIT_START_FAILED = 78
"""Exit code after a StartError (EX_CONFIG of sysexits.h): starting again would not help."""
