"""The only module that talks to the API server.

Plain dictionaries in and out: the client's typed models refuse fields that a newer cluster has. Reads return None for
what is not there; every write names its field manager.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from kubernetes.aio import client, config

from openmodel_operator import names
from openmodel_operator.spec import Manifest

_PLURALS = {
    names.KIND: names.PLURAL,
    "StatefulSet": "statefulsets",
    "Service": "services",
    "Pod": "pods",
    "Job": "jobs",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ConfigMap": "configmaps",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Event": "events",
}
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_TIMEOUT_SECONDS = 30
_REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY)
_UNKNOWN_FIELD = "field not declared in schema"


class KubeError(Exception):
    """The API server refused or could not be reached; `status` 0 is the latter."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def permanent(self) -> bool:
        """True when trying the same again can not help: the request itself is refused."""
        # A field that the schema does not have fails before validation, as an internal error.
        return self.status in _REFUSALS or _UNKNOWN_FIELD in str(self)


class Kube:
    """Requests to one API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> Kube:
        """In a pod with its service account, elsewhere with the kubeconfig."""
        try:
            config.load_incluster_config()
        except config.ConfigException:
            await config.load_kube_config()
        return cls(client.ApiClient())

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or None."""
        try:
            return await self._request("GET", _path(api_version, kind, namespace, name))
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> list[Manifest]:
        """Objects with these labels; in all namespaces when `namespace` is None."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        query = {"labelSelector": selector} if selector else {}
        answer = await self._request("GET", _path(api_version, kind, namespace), query=query)
        # Items of a list carry neither kind nor version.
        return [{"apiVersion": api_version, "kind": kind, **item} for item in answer["items"]]

    async def apply(self, manifest: Manifest, manager: str = names.FIELD_MANAGER) -> Manifest:
        """Server-side apply under our field manager, or another name of ours."""
        metadata = manifest["metadata"]
        path = _path(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("PATCH", path, query=query, body=manifest, content=_APPLY)

    async def delete(self, manifest: Manifest) -> None:
        """Deletes exactly this object, not a later one of its name; what is gone is fine."""
        metadata = manifest["metadata"]
        path = _path(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])
        body = {"propagationPolicy": "Background", "preconditions": {"uid": metadata["uid"]}}
        try:
            await self._request("DELETE", path, body=body)
        except KubeError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def patch_status(self, model: Manifest, patch: Manifest) -> None:
        """Merge-patches the status subresource; an object that is gone is fine."""
        metadata = model["metadata"]
        path = _path(names.API_VERSION, names.KIND, metadata["namespace"], metadata["name"])
        query = {"fieldManager": names.STATUS_FIELD_MANAGER}
        # The uid makes the patch miss an object that was deleted and made again meanwhile.
        body = {"metadata": {"uid": metadata["uid"]}, "status": patch}
        try:
            await self._request("PATCH", f"{path}/status", query=query, body=body, content=_MERGE)
        except KubeError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def log(self, namespace: str, pod: str, lines: int) -> str:
        """The last lines of a pod's log; "" when there is none to be had."""
        path = f"{_path('v1', 'Pod', namespace, pod)}/log"
        try:
            return (await self._answer("GET", path, query={"tailLines": str(lines)})).decode(errors="replace")
        except KubeError as error:
            if error.status == 0:
                raise
            return ""

    async def create_event(self, event: Manifest) -> None:
        """Posts an Event."""
        path = _path("v1", "Event", event["metadata"]["namespace"])
        await self._request("POST", path, body=event)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content: str = "application/json",
    ) -> Manifest:
        data = await self._answer(method, path, query=query, body=body, content=content)
        return dict(json.loads(data)) if data else {}

    async def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content: str = "application/json",
    ) -> bytes:
        serialized = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self._api.call_api(*serialized, _request_timeout=_TIMEOUT_SECONDS)
            data = await response.read()
        except (OSError, TimeoutError, client.OpenApiException) as error:
            raise KubeError(0, f"{method} {path}: {error}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            answer: Any = json.loads(data) if data else {}
            raise KubeError(response.status, answer.get("message", response.reason))
        return bytes(data)


def _path(api_version: str, kind: str, namespace: str | None, name: str = "") -> str:
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    # A name is one part of the path, whatever is in it: it may be a user's.
    return f"{root}{scope}/{_PLURALS[kind]}{f'/{quote(name, safe=str())}' if name else ''}"
