"""`python -m openmodel_operator.installation_check SCALER [ROUTER]`: whether what the chart installed answers.

Run by `helm test`, in a pod of the release: asks the external scaler as KEDA does, and every router for its metrics. A
scaler that is served over TLS (`--scaler-ca FILE`) must have a certificate that this authority signed, where there is
such a file; what it answers only those know who have one of their own.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import grpc

from openmodel_protos import externalscaler_pb2 as pb
from openmodel_protos import externalscaler_pb2_grpc as pb_grpc

_SECONDS = 20.0
_METRICS_PORT = 8080


def check_scaler(address: str) -> str:
    """Asks for a model that is not named, and is told so."""
    with grpc.insecure_channel(address) as channel:
        try:
            pb_grpc.ExternalScalerStub(channel).IsActive(pb.ScaledObjectRef(), timeout=_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                return f"the external scaler answers at {address}"
            raise SystemExit(f"the external scaler at {address}: {error.code().name}: {error.details()}") from None
    raise SystemExit(f"the external scaler at {address} knows a model without a name")


def check_certificate(address: str, authority: str) -> str:
    """Has the scaler show its certificate."""
    host, _, port = address.rpartition(":")
    try:
        checked = Path(authority).is_file()
        context = ssl.create_default_context(cafile=authority if checked else None)
        if not checked:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((host, int(port)), timeout=_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert() or {}
    except OSError as error:
        raise SystemExit(f"the external scaler at {address}, by {authority}: {error}") from None
    if not checked:
        return f"the external scaler at {address} has a certificate; the Secret has no ca.crt to check it by"
    return f"the external scaler at {address} has a certificate until {certificate['notAfter']}"


def check_routers(service: str) -> str:
    """Asks all that the headless Service leads to."""
    try:
        found = {item[4][0] for item in socket.getaddrinfo(service, _METRICS_PORT, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise SystemExit(f"no router is ready: {service}: {error}") from None
    for address in sorted(map(str, found)):
        host = f"[{address}]" if ":" in address else address
        try:
            with urllib.request.urlopen(f"http://{host}:{_METRICS_PORT}/metrics", timeout=_SECONDS) as answer:
                answer.read()
        except OSError as error:
            raise SystemExit(f"the router at {address} does not answer: {error}") from None
    return f"{len(found)} routers answer"


def main(arguments: Sequence[str]) -> int:
    """Entry point; says what answers, and ends with what does not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scaler-ca", metavar="FILE")
    parser.add_argument("scaler")
    parser.add_argument("routers", nargs="*")
    given = parser.parse_args(arguments)
    print(check_certificate(given.scaler, given.scaler_ca) if given.scaler_ca else check_scaler(given.scaler))
    for service in given.routers:
        print(check_routers(service))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
