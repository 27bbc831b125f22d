"""The only module that talks to the API server.

Plain dictionaries in and out: the client's typed models refuse fields that a newer cluster has. Reads return None for
what is not there; every write names its field manager.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

import aiohttp
from kubernetes.aio import client, config

from openmodel_operator import names
from openmodel_operator.spec import Manifest

PLURALS = {
    names.KIND: names.PLURAL,
    "StatefulSet": "statefulsets",
    "Service": "services",
    "Pod": "pods",
    "Job": "jobs",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ConfigMap": "configmaps",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "EndpointSlice": "endpointslices",
    "Event": "events",
    "Lease": "leases",
}
"""Of the kinds that are dealt with, as paths have them."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_TIMEOUT_SECONDS = 30
# A list of ten thousand objects in one piece would be a hundred megabytes at once.
_PAGE = 500
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


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    items: list[Manifest]
    version: int
    """resourceVersion of the whole list."""
    following: str
    """What the next part is asked for with; "" after the last."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    kind: str
    path: str
    query: Mapping[str, str] | None = None
    body: Manifest | None = None
    content: str = "application/json"


class Kube:
    """Requests to one API server.

    Args:
        api: the client.
        booked: told of every request's method and kind.
    """

    def __init__(self, api: client.ApiClient, booked: Callable[[str, str], None]) -> None:
        self._api = api
        self._booked = booked

    @classmethod
    async def connect(cls, booked: Callable[[str, str], None]) -> Kube:
        """In a pod with its service account, elsewhere with the kubeconfig."""
        try:
            config.load_incluster_config()
        except config.ConfigException:
            # The library looks at the variable once, when it is imported.
            await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"))
        return cls(client.ApiClient(), booked)

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or None."""
        try:
            return await self._request(_Request("GET", kind, _path(api_version, kind, namespace, name)))
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def page(self, api_version: str, kind: str, selector: str, following: str = "") -> Page:
        """Some objects of all namespaces that a label selector finds, and how to get more."""
        asked = {"limit": str(_PAGE), "labelSelector": selector, "continue": following}
        query = {key: value for key, value in asked.items() if value}
        answer = await self._request(_Request("GET", kind, _path(api_version, kind, None), query))
        # Items of a list carry neither kind nor version.
        items = [{"apiVersion": api_version, "kind": kind, **item} for item in answer["items"]]
        metadata = answer["metadata"]
        return Page(items, int(metadata["resourceVersion"]), metadata.get("continue", ""))

    async def apply(self, manifest: Manifest, manager: str) -> Manifest:
        """Server-side apply under a field manager of ours."""
        query = {"fieldManager": manager, "force": "true"}
        return await self._request(_Request("PATCH", manifest["kind"], _path_of(manifest), query, manifest, _APPLY))

    async def create(self, manifest: Manifest) -> bool:
        """Makes what is not there; False when it is there."""
        metadata = manifest["metadata"]
        path = _path(manifest["apiVersion"], manifest["kind"], metadata["namespace"])
        return await self._unless_conflict(_Request("POST", manifest["kind"], path, body=manifest))

    async def replace(self, manifest: Manifest) -> bool:
        """Writes the whole of what is there; False when it is not as the manifest's resourceVersion says."""
        return await self._unless_conflict(_Request("PUT", manifest["kind"], _path_of(manifest), body=manifest))

    async def delete(self, manifest: Manifest) -> None:
        """Deletes exactly this object, not a later one of its name; what is gone is fine."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": manifest["metadata"]["uid"]}}
        try:
            await self._request(_Request("DELETE", manifest["kind"], _path_of(manifest), body=body))
        except KubeError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def patch_status(self, model: Manifest, patch: Manifest) -> Manifest | None:
        """Merge-patches the status subresource; None when the object is gone, or is another by now."""
        query = {"fieldManager": names.STATUS_FIELD_MANAGER}
        # The uid makes the patch miss an object that was deleted and made again meanwhile.
        body = {"metadata": {"uid": model["metadata"]["uid"]}, "status": patch}
        try:
            return await self._request(_Request("PATCH", names.KIND, f"{_path_of(model)}/status", query, body, _MERGE))
        except KubeError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise
            return None

    async def scale(self, model: Manifest, replicas: int) -> bool:
        """Writes the count through the scale subresource; False when the model is not the one seen any more."""
        metadata = {key: model["metadata"][key] for key in ("uid", "resourceVersion")}
        body = {"metadata": metadata, "spec": {"replicas": replicas}}
        query = {"fieldManager": names.SCALE_FIELD_MANAGER}
        try:
            await self._request(_Request("PATCH", names.KIND, f"{_path_of(model)}/scale", query, body, _MERGE))
        except KubeError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise
            return False
        return True

    async def log(self, namespace: str, pod: str, lines: int) -> str:
        """The last lines of a pod's log; "" when there is none to be had."""
        path = f"{_path('v1', 'Pod', namespace, pod)}/log"
        try:
            return (await self._answer(_Request("GET", "Pod", path, {"tailLines": str(lines)}))).decode(
                errors="replace"
            )
        except KubeError as error:
            if error.status == 0:
                raise
            return ""

    async def warnings(self, namespace: str, uid: str) -> list[Manifest]:
        """Events of the kind Warning about an object."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning"}
        answer = await self._request(_Request("GET", "Event", _path("v1", "Event", namespace), query))
        return list(answer["items"])

    async def create_event(self, event: Manifest) -> None:
        """Posts an Event."""
        await self.create(event)

    async def _unless_conflict(self, request: _Request) -> bool:
        try:
            await self._request(request)
        except KubeError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return False
        return True

    async def _request(self, request: _Request) -> Manifest:
        data = await self._answer(request)
        return dict(json.loads(data)) if data else {}

    async def _answer(self, request: _Request) -> bytes:
        self._booked(request.method, request.kind)
        try:
            serialized = await self._api.param_serialize(
                request.method,
                request.path,
                query_params=list((request.query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": request.content},
                body=request.body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*serialized, _request_timeout=_TIMEOUT_SECONDS)
            data = await response.read()
        except (OSError, TimeoutError, aiohttp.ClientError, client.OpenApiException) as error:
            raise KubeError(0, f"{request.method} {request.path}: {error}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise KubeError(response.status, _refusal(data) or response.reason)
        return bytes(data)


def _refusal(data: bytes) -> str:
    """The API server's words; "" when what answered is not one, or says nothing."""
    try:
        answer = json.loads(data)
    except ValueError:
        return ""
    return str(answer.get("message", "")) if isinstance(answer, Mapping) else ""


def _path(api_version: str, kind: str, namespace: str | None, name: str = "") -> str:
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    # A name is one part of the path, whatever is in it: it may be a user's.
    return f"{root}{scope}/{PLURALS[kind]}{f'/{quote(name, safe=str())}' if name else ''}"


def _path_of(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return _path(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])
