"""Keeps the routes in step with the API server: lists EndpointSlices of models, then watches; and begins anew.

While the API server is away the routes stay as they were last seen.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from kubernetes.aio import client, config, watch

from openmodel_router.routes import MODEL_LABEL, Model, Routes, key_of

_log = logging.getLogger(__name__)
# The typed models refuse fields that a newer cluster has; as custom objects they are dictionaries.
_SLICES = {"group": "discovery.k8s.io", "version": "v1", "plural": "endpointslices", "label_selector": MODEL_LABEL}
_PAGE = 500
# Whatever a watch misses: this is how old a mistake may get.
_WATCH_SECONDS = 300
_SILENCE_SECONDS = 90.0
_RETRY_SECONDS = 1.0
_MOST_RETRY_SECONDS = 10.0


class SliceWatch:
    """Lists and watches."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self.filled = asyncio.Event()
        """Set once all slices have been listed."""

    async def run(self) -> None:
        """Watches until cancelled."""
        try:
            config.load_incluster_config()
        except config.ConfigException:
            await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"))
        async with client.ApiClient() as api:
            slices = client.CustomObjectsApi(api)
            pause = _RETRY_SECONDS
            while True:
                try:
                    version = await self._list(slices)
                    pause = _RETRY_SECONDS
                    await self._follow(slices, version)
                except Exception as error:
                    # Whatever it is, it passes, or the kubelet hears that nothing was ever listed.
                    _log.warning("watching EndpointSlices failed, again in %.0f s: %s", pause, error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _MOST_RETRY_SECONDS)

    async def _list(self, slices: Any) -> str:
        keys: set[Model] = set()
        following = ""
        while True:
            more = {"_continue": following} if following else {}
            page = await slices.list_cluster_custom_object(**_SLICES, limit=_PAGE, _request_timeout=30, **more)
            # Page by page: of all of them at once there may be too many.
            for item in page["items"]:
                self._routes.put(item)
                keys.add(key_of(item))
            following = page["metadata"].get("continue", "")
            if not following:
                break
        self._routes.retain(keys)
        self.filled.set()
        return str(page["metadata"]["resourceVersion"])

    async def _follow(self, slices: Any, version: str) -> None:
        """Until the server ends the watch, or says that it can not go on from there."""
        events = watch.Watch(return_type="object").stream(
            slices.list_cluster_custom_object,
            **_SLICES,
            resource_version=version,
            timeout_seconds=_WATCH_SECONDS,
            allow_watch_bookmarks=True,
            _request_timeout=_WATCH_SECONDS + 30,
        )
        async with events:
            while True:
                # A server that is gone without a word does not even send its bookmarks.
                async with asyncio.timeout(_SILENCE_SECONDS):
                    event = await anext(events, None)
                if event is None:
                    return
                match event["type"]:
                    case "ADDED" | "MODIFIED":
                        self._routes.put(event["raw_object"])
                    case "DELETED":
                        self._routes.remove(event["raw_object"])
