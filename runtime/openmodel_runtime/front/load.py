"""The Load service: what the operator asks a pod about its group."""

from __future__ import annotations

from typing import Any

import grpc

from openmodel_protos import load_pb2 as pb
from openmodel_protos import load_pb2_grpc as pb_grpc
from openmodel_runtime.group.supervisor import RankSupervisor


class LoadServicer(pb_grpc.LoadServicer):
    """Load for one pod."""

    def __init__(self, ranks: RankSupervisor) -> None:
        self._ranks = ranks

    async def Report(self, request: pb.LoadRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.LoadReport:
        """The group as this pod sees it; empty while it has no rank."""
        report = self._ranks.report()
        if report is None:
            return pb.LoadReport()
        coverage = report.coverage
        return pb.LoadReport(
            ranks=coverage.ranks,
            wanted_ranks=report.wanted_ranks,
            epoch=report.epoch,
            experts=coverage.experts,
            missing_experts=coverage.missing,
            smallest_ranks=coverage.smallest,
            survives_process_loss=coverage.survives_process_loss,
            survives_pod_loss=coverage.survives_pod_loss,
            imbalance=report.imbalance,
            last_rebalance=report.last_rebalance,
        )
