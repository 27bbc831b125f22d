"""The Demand service: what calls wait for, told to the operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from openmodel_protos import demand_pb2 as pb
from openmodel_protos import demand_pb2_grpc as pb_grpc
from openmodel_router.holding import Holding


class DemandServicer(pb_grpc.DemandServicer):
    """openmodel.v1.Demand."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    async def Watch(
        self, request: pb.DemandRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.DemandReport]:
        """All that is held, then what changes."""
        with self._holding.listen() as listener:
            while True:
                held = await listener.news()
                models = [
                    pb.ModelDemand(namespace=namespace, name=name, held=count)
                    for (namespace, name), count in held.items()
                ]
                yield pb.DemandReport(models=models)
