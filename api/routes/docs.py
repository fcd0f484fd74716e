"""The API to browse, at /docs: Swagger UI from a wheel, so that nothing is fetched from elsewhere."""

import importlib.util
from pathlib import Path
from typing import Any

from apiflask import APIBlueprint
from flask import Response, send_from_directory

# The files of Swagger UI that are served, by the name under /docs; 5 is the first version that shows OpenAPI 3.1.
ASSETS = {"swagger-ui.css": "css/swagger-ui.css", "swagger-ui-bundle.js": "js/swagger-ui-bundle.js"}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>fewbits API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
# No script in the page itself, nothing from elsewhere, no frame around it. Swagger UI sets styles on elements.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CACHE_SECONDS = 3600

routes = APIBlueprint("docs", __name__, enable_openapi=False)


@routes.get("/docs")
def page() -> Response:
    """Return the page."""
    return Response(PAGE, mimetype="text/html", headers={"Content-Security-Policy": POLICY})


@routes.get("/docs/<name>")
def asset(name: str) -> Any:
    """Return one of the page's files."""
    if name == "start.js":
        return Response(START, mimetype="text/javascript")
    return send_from_directory(_swagger_ui(), ASSETS.get(name, name), max_age=CACHE_SECONDS)


def _swagger_ui() -> Path:
    """Return where the wheel's files lie, without running its code, which is for another framework."""
    spec = importlib.util.find_spec("flask_openapi3_swagger")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("The package flask-openapi3-swagger is not installed.")
    return Path(spec.submodule_search_locations[0]) / "templates" / "swagger"
