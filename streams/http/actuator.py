"""The endpoints that an operator's tools ask: health, info, metrics. All of them answer at once, whatever is down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streams.http.health import Component, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.requests import Request

    from streams.http.health import Health

__all__ = ["actuator"]

OK, UNAVAILABLE, NOT_FOUND = 200, 503, 404
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def actuator(
    health: Health, info: Mapping[str, Any], metrics_text: Callable[[], bytes], more_routes: Iterable[Route] = ()
) -> Starlette:
    """The HTTP app.

    Args:
        health: judged at each request.
        info: what this build and deployment is; nothing secret.
        metrics_text: everything in Prometheus' text format.
        more_routes: what the slices of this process answer.
    """

    async def index(_request: Request) -> Response:
        links = {
            name: {"href": f"/actuator/{path}"}
            for name, path in (
                ("health", "health"),
                ("health-liveness", "health/liveness"),
                ("health-readiness", "health/readiness"),
                ("info", "info"),
                ("prometheus", "prometheus"),
            )
        }
        return JSONResponse({"_links": links})

    async def whole(_request: Request) -> Response:
        found = health.overall()
        return JSONResponse(found, OK if found["status"] == Status.UP else UNAVAILABLE)

    async def part(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "liveness":
            return _component(health.liveness())
        if name == "readiness":
            return _component(health.readiness())
        components = health.components()
        if name not in components:
            known = ["liveness", "readiness", *components]
            return JSONResponse({"error": f"no component {name!r}; there are {', '.join(known)}"}, NOT_FOUND)
        return _component(components[name])

    async def about(_request: Request) -> Response:
        return JSONResponse(dict(info))

    async def metrics(_request: Request) -> Response:
        return Response(metrics_text(), media_type=PROMETHEUS_TEXT)

    return Starlette(
        routes=[
            Route("/actuator", index),
            Route("/actuator/health", whole),
            Route("/actuator/health/{name}", part),
            Route("/actuator/info", about),
            Route("/actuator/prometheus", metrics),
            Route("/metrics", metrics),
            *more_routes,
        ]
    )


def _component(component: Component) -> Response:
    return JSONResponse(component.as_json(), OK if component.status is Status.UP else UNAVAILABLE)
