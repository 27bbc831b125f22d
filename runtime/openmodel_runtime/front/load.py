"""The Load service: what the operator asks a pod about its group and its requests."""

from __future__ import annotations

from typing import Any

import grpc

from openmodel_protos import load_pb2 as pb
from openmodel_protos import load_pb2_grpc as pb_grpc
from openmodel_runtime.front.activity import Activity
from openmodel_runtime.group.supervisor import RankSupervisor


class LoadServicer(pb_grpc.LoadServicer):
    """Load for one pod."""

    def __init__(self, ranks: RankSupervisor, activity: Activity) -> None:
        self._ranks = ranks
        self._activity = activity

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
            requests=self._requests(),
        )

    def _requests(self) -> pb.RequestLoad | None:
        queue = self._ranks.queue()
        if queue is None:
            return None
        return pb.RequestLoad(
            ranks=queue.ranks,
            running=queue.running,
            waiting=queue.waiting,
            waiting_tokens=queue.waiting_tokens,
            most_waiting_tokens=queue.most_waiting_tokens,
            kv_cache_used=queue.kv_cache_used,
            under_way=self._activity.under_way,
            idle_seconds=self._activity.idle_seconds,
            first_token_seconds=self._activity.first_token_seconds,
        )
