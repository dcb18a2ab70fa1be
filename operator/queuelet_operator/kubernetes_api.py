"""Requests to the API server, other than kopf's watch.

The official client finds the API server and the credentials and renews them. The requests use aiohttp directly, because
the models of the official client cost many times the CPU time of a request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus

import aiohttp
import kubernetes.aio.config as official
from kubernetes.aio.client import ApiClient, Configuration

from queuelet_operator.class_claim import HELD_BY, Claim
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan.resources import API_VERSION, GROUP, KIND, PLURAL, VERSION, Body, Key

QUEUES = f"/apis/{GROUP}/{VERSION}"

TIMEOUT = 30.0
"""The timeout of a request, in seconds."""

_RBAC = "rbac.authorization.k8s.io"
_MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused a request, or did not respond."""

    def __init__(self, code: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        """The HTTP status code; 0 if there was no response."""
        self.retry_after = retry_after
        """Seconds that the API server asks to wait before a retry; 0 if it does not ask."""

    @property
    def is_gone(self) -> bool:
        """Whether the object does not exist."""
        return self.code == HTTPStatus.NOT_FOUND

    @property
    def is_conflict(self) -> bool:
        """Whether the object was changed meanwhile, or replaced by another with its name."""
        return self.code == HTTPStatus.CONFLICT


async def login() -> Configuration:
    """Return the configuration for the API server: that of the Pod, or else of the user's kubeconfig.

    Raises `ConfigException` if there is neither.
    """
    configuration = Configuration()
    try:
        official.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # theirs
    except official.ConfigException:
        await official.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # theirs
    return configuration


def open_session(
    configuration: Configuration, metrics: Metrics, *, connections: int, watch_began: Callable[[str], None]
) -> aiohttp.ClientSession:
    """Return a session that adds current credentials to each request and counts requests in the metrics.

    `connections` is the size of its pool. `watch_began` is called with the path of each watch that the API server
    accepts.
    """

    async def authorized(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        # The official client reads a Pod's token file again each minute, and reruns the exec plugin of a kubeconfig.
        header: dict[str, str]
        for header in (await configuration.auth_settings()).values():  # type: ignore[assignment]  # it says object
            if header["value"]:
                request.headers[header["key"]] = header["value"]
        return await handler(request)

    tls = ApiClient(configuration).rest_client.ssl_context
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=tls),
        middlewares=(authorized,),
        headers={"User-Agent": "queuelet-operator"},
        trace_configs=[_counting(metrics, watch_began)],
    )


def _counting(metrics: Metrics, watch_began: Callable[[str], None]) -> aiohttp.TraceConfig:
    async def succeeded(_: object, __: object, request: aiohttp.TraceRequestEndParams) -> None:
        verb = _verb(request.method, request.url.query)
        metrics.api_requests.labels(verb, str(request.response.status)).inc()
        if verb == "watch" and request.response.status == HTTPStatus.OK:
            watch_began(request.url.path)

    async def failed(_: object, __: object, request: aiohttp.TraceRequestExceptionParams) -> None:
        metrics.api_requests.labels(_verb(request.method, request.url.query), "0").inc()

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(succeeded)
    trace.on_request_exception.append(failed)
    return trace


def _verb(method: str, query: Mapping[str, str]) -> str:
    return "watch" if query.get("watch") == "true" else method.lower()


class KubernetesApi:
    """The requests that the operator makes. `server` is the URL of the API server.

    Each raises `ApiError` if it is refused or gets no response.
    """

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session = session
        self.server = server
        self.may_write: Callable[[], bool] = lambda: True
        """Returns whether writes are allowed, which they are only while this operator holds the Lease."""

    async def patch_status(self, key: Key, uid: str, patch: Body) -> Body:
        """Apply a merge patch to the status of the object with this uid; return the object."""
        return await self._patch(f"{_path(key)}/status", {"metadata": {"uid": uid}, "status": patch})

    async def set_finalizers(self, key: Key, uid: str, finalizers: tuple[str, ...], resource_version: int) -> Body:
        """Set the finalizers of an object if its resource version is still this one; return the object."""
        metadata = {"uid": uid, "resourceVersion": str(resource_version), "finalizers": list(finalizers)}
        return await self._patch(_path(key), {"metadata": metadata})

    async def get_namespace(self, name: str) -> Body:
        """Return a namespace."""
        return await self._request("GET", f"/api/v1/namespaces/{name}")

    async def get_claim(self, claim: Claim) -> Body:
        """Return the role that claims a queue class."""
        return await self._request("GET", _path_of_claim(claim))

    async def claims_in_namespaces(self, name: str) -> list[Body]:
        """Return the roles with this name in all namespaces: the claims of a queue class in single namespaces."""
        # RBAC permits a list that is restricted to a name only if the request selects that name.
        query = {"fieldSelector": f"metadata.name={name}"}
        found: list[Body] = (await self._request("GET", f"/apis/{_RBAC}/v1/roles", query=query))["items"]
        return found

    async def hold_claim(self, claim: Claim, instance: str, resource_version: str) -> None:
        """Write an instance into a claim as its holder, if its resource version is still this one."""
        metadata = {"resourceVersion": resource_version, "annotations": {HELD_BY: instance}}
        await self._patch(_path_of_claim(claim), {"metadata": metadata})

    async def may_read_claim(self, claim: Claim) -> bool:
        """Return whether the operator is permitted to read a claim. The request itself needs no permission."""
        attributes = {"group": _RBAC, "resource": f"{claim.kind.lower()}s", "name": claim.name, "verb": "get"}
        if claim.namespace:
            attributes["namespace"] = claim.namespace
        review: Body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        response = await self._request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(response["status"]["allowed"])

    async def get_service(self, namespace: str, name: str) -> Body:
        """Return a Service."""
        return await self._request("GET", f"/api/v1/namespaces/{namespace}/services/{name}")

    async def get_queue(self, key: Key) -> Body:
        """Return a Queue."""
        return await self._request("GET", _path(key))

    async def first_queue(self, namespace: str | None) -> Body:
        """Return a list of at most one Queue, whose metadata has the number of the remaining ones."""
        where = f"/namespaces/{namespace}" if namespace else ""
        return await self._request("GET", f"{QUEUES}{where}/{PLURAL}", query={"limit": "1"})

    async def serves_queues(self) -> bool:
        """Return whether the API server serves the kind Queue."""
        try:
            known = await self._request("GET", QUEUES)
        except ApiError as error:
            if error.is_gone:
                return False
            raise
        return any(each["name"] == PLURAL for each in known["resources"])

    async def post_event(self, namespace: str, event: Body) -> None:
        """Create an Event."""
        await self._request("POST", f"/api/v1/namespaces/{namespace}/events", event)

    async def _patch(self, path: str, patch: Body) -> Body:
        return await self._request("PATCH", path, patch, content_type=_MERGE_PATCH)

    async def _request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Body:
        if method != "GET" and not self.may_write():
            raise ApiError(0, "this operator no longer holds the Lease")
        try:
            async with self.session.request(
                method,
                self.server + path,
                params=query,
                data=json.dumps(body).encode() if body is not None else None,
                headers={"Content-Type": content_type},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            ) as response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, f"the API server did not respond: {error!r}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(response.status, _sentence(text), _retry_after(response))
        parsed: Body = json.loads(text)
        return parsed


def _retry_after(response: aiohttp.ClientResponse) -> float:
    """Return Retry-After in seconds, 0 for a date: API servers send seconds, but a proxy may send a date."""
    try:
        return max(float(response.headers.get("Retry-After") or 0), 0.0)
    except ValueError:
        return 0.0


def _sentence(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500].decode(errors="replace")


def _path(key: Key) -> str:
    return f"{QUEUES}/namespaces/{key.namespace}/{PLURAL}/{key.name}"


def _path_of_claim(claim: Claim) -> str:
    where = f"/namespaces/{claim.namespace}" if claim.namespace else ""
    return f"/apis/{_RBAC}/v1{where}/{claim.kind.lower()}s/{claim.name}"


def reference(key: Key, uid: str) -> Body:
    """Return the `involvedObject` of an Event about a Queue."""
    return {"apiVersion": API_VERSION, "kind": KIND, "namespace": key.namespace, "name": key.name, "uid": uid}
