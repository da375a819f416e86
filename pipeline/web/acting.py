"""What `service.api` serves: the API and the links' pages, as one app."""

from typing import cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pipeline.http import Asgi
from pipeline.runtime.action_links import PAGE
from pipeline.runtime.desk import Desk
from pipeline.web.api import PATH, Api
from pipeline.web.guard import protected
from pipeline.web.pages import Pages


def acting(desk: Desk) -> dict[str, Asgi]:
    """The paths and their app."""
    pages = Pages(desk)
    routes = [
        Route(f"{PAGE}{{token}}", pages.show, methods=["GET"]),
        Route(f"{PAGE}{{token}}", pages.act, methods=["POST"]),
        *Api(desk).routes(),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _nothing, 405: _nothing})
    return dict.fromkeys((f"{PATH}/*", f"{PAGE}*"), cast(Asgi, app))


async def _nothing(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    text = {404: "there is nothing here; docs/api.md says what there is", 405: "not by this method"}[status]
    return protected(PlainTextResponse(f"{text}\n", status, getattr(error, "headers", None)))
