"""The portal's blueprint, what all of its answers carry, and its errors as pages.

An error is made a problem document first, as everywhere, and is then told as a page: there is one place that knows
what each error means.
"""

from http import HTTPStatus
from typing import Any

from apiflask import APIBlueprint, APIFlask
from flask import Response, g, render_template, request, url_for
from jinja2 import StrictUndefined

from api.portal import browser, wording
from api.portal.answers import text_of
from api.problems import MEDIA_TYPE

# Nothing from elsewhere, no script or style within a page, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # under "no-referrer" the Origin of a form would be "null"
}
KEPT_HEADERS = ("Allow", "Retry-After")

routes = APIBlueprint(
    browser.PORTAL,
    __name__,
    enable_openapi=False,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static",
)


def install(app: APIFlask) -> None:
    """Set up the templates, and answer a browser's errors with pages."""
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(wording.FILTERS, option_text=text_of)
    app.context_processor(_known_to_all)
    app.after_request(_complete)


def page(template: str, status: int = HTTPStatus.OK, **known: Any) -> Response:
    """Return a page made from a template."""
    return Response(render_template(template, **known), status, mimetype="text/html")


def see(address: str) -> Response:
    """Return the answer to a form: go and look at that page."""
    return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": address})


@routes.before_request
def _refuse_foreign_form() -> None:
    if request.method == "POST":
        browser.refuse_foreign_form()


def _known_to_all() -> dict[str, Any]:
    member = g.get("member")
    return {"member": member, "form_token": browser.form_token() if member is not None else ""}


def _complete(response: Response) -> Response:
    if not browser.wants_page():
        return response
    if response.mimetype == MEDIA_TYPE and not browser.wants_events():
        response = _failure(response)
    response.headers.extend(HEADERS)
    return response


def _failure(response: Response) -> Response:
    """Return the page that tells a problem; where nobody is signed in, that is the one to do so."""
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        wanted = request.full_path.rstrip("?") if request.method == "GET" else ""
        answer = see(url_for("portal.sign_in", next=browser.own_page(wanted)))
        browser.forget(answer)
        return answer
    answer = page("failure.html", response.status_code, problem=response.get_json())
    answer.headers.extend({name: response.headers[name] for name in KEPT_HEADERS if name in response.headers})
    return answer
