"""Which API descriptions does the service publish at ``/swagger.json``?"""

from __future__ import annotations

import copy
import json
import os
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from .config import Settings


class Version(NamedTuple):
    """A version of the document: its aliases in the query, and the files that replace it."""

    name: str
    aliases: Tuple[str, ...]
    overrides: Tuple[str, ...]


VERSIONS = (
    Version("2", ("2", "2.0"), ("swagger.json", "swagger2.json")),
    Version("3", ("3", "3.0"), ("swagger3.json",)),
    Version("3.1", ("3.1",), ("swagger3.1.json",)),
)
ALIASES = tuple(alias for version in VERSIONS for alias in version.aliases)


def missing(alias: str, supported: List[str]) -> str:
    """Why a version is not among the supported ones, in words for the client."""
    listed = ", ".join(sorted(supported))
    if alias in ALIASES:
        return (
            "Swagger version [{}] is not supported for the scoring script. "
            "Supported swagger versions: [{}]."
        ).format(alias, listed)
    return "Swagger version [{}] is not valid. Supported versions: [{}].".format(alias, listed)


def documents_of(settings: Settings, run: Callable[..., Any]) -> Tuple[Dict[str, bytes], List[str]]:
    """The documents by alias, and the names of the versions that the script supports.

    A file in the app root replaces the generated document.
    """
    documents: Dict[str, bytes] = {}
    supported: List[str] = []
    for version in VERSIONS:
        document = _override(settings.app_root, version) or _generate(settings, version, run)
        if document is not None:
            supported.append(version.name)
            for alias in version.aliases:
                documents[alias] = json.dumps(document).encode("ascii")
    return documents, supported


def _override(app_root: str, version: Version) -> Optional[Any]:
    for name in version.overrides:
        path = os.path.join(app_root, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            if content:
                return content
    return None


def _generate(settings: Settings, version: Version, run: Callable[..., Any]) -> Optional[Any]:
    given: Any = {"type": "object", "example": {}}
    returned: Any = given
    schemas = sys.modules.get("inference_schema.schema_util")
    if schemas is not None:
        known = schemas.get_supported_versions(run)
        if not any(alias in known for alias in version.aliases):
            return None
        if schemas.is_schema_decorated(run):
            given = schemas.get_input_schema(run)
            returned = schemas.get_output_schema(run)
    prefix = settings.service_path_prefix.strip("/")
    document = _document(settings, "/" + prefix if prefix else "", version.name)
    models = document["definitions" if version.name == "2" else "components"]
    models = models if version.name == "2" else models["schemas"]
    models["ServiceInput"] = copy.deepcopy(given)
    models["ServiceOutput"] = copy.deepcopy(returned)
    return document


def _document(settings: Settings, prefix: str, version: str) -> Dict[str, Any]:
    info = {
        "title": settings.service_name,
        "description": "API specification for the Azure Machine Learning service {}".format(
            settings.service_name
        ),
        "version": settings.service_version,
    }
    bearer = {
        "Bearer": {
            "type": "apiKey",
            "name": "Authorization",
            "in": "header",
            "description": "For example: Bearer abc123",
        }
    }
    models = {
        "ErrorResponse": {"type": "object", "properties": {"message": {"type": "string"}}},
    }
    paths = _paths(prefix, version == "2")
    if version == "2":
        return {
            "swagger": "2.0",
            "info": info,
            "schemes": ["https"],
            "consumes": ["application/json"],
            "produces": ["application/json"],
            "securityDefinitions": bearer,
            "paths": paths,
            "definitions": models,
        }
    return {
        "openapi": "3.0.3" if version == "3" else "3.1.0",
        "info": info,
        "security": [{"Bearer": []}],
        "paths": paths,
        "components": {"schemas": models, "securitySchemes": bearer},
    }


def _paths(prefix: str, is_two: bool) -> Dict[str, Any]:
    place = "#/definitions/" if is_two else "#/components/schemas/"

    def answer(text: str, schema: Dict[str, Any], kind: str = "application/json") -> Dict[str, Any]:
        if is_two:
            return {"description": text, "schema": schema}
        return {"description": text, "content": {kind: {"schema": schema}}}

    failure = answer(
        "The service failed to execute due to an error.", {"$ref": place + "ErrorResponse"}
    )
    healthy = answer(
        "If service is up and running, this response will be returned with the content 'Healthy'",
        {"type": "string"} if is_two else {"type": "string", "example": "Healthy"},
        "text/plain",
    )
    if is_two:
        healthy["examples"] = {"application/json": "Healthy"}
    scored = answer(
        "The service processed the input correctly and provided a result prediction, "
        "if applicable.",
        {"$ref": place + "ServiceOutput"},
    )
    payload = {"$ref": place + "ServiceInput"}
    payload_text = "The input payload for executing the real-time machine learning service."
    score: Dict[str, Any] = {
        "operationId": "RunMLService",
        "description": "Run web service's model and get the prediction output",
        "security": [{"Bearer": []}],
    }
    if is_two:
        score["parameters"] = [
            {
                "name": "serviceInputPayload",
                "in": "body",
                "description": payload_text,
                "schema": payload,
            }
        ]
    else:
        score["requestBody"] = answer(payload_text, payload)
    score["responses"] = {"200": scored, "default": failure}
    which: Dict[str, Any] = {"type": "integer", "enum": [2, 3]}
    version_parameter: Dict[str, Any] = {"name": "version", "in": "query", "required": False}
    version_parameter.update(which if is_two else {"schema": which})
    document = answer("The Swagger specification.", {"type": "string"}, "text/plain")
    return {
        prefix + "/": {
            "get": {
                "operationId": "ServiceHealthCheck",
                "description": "Simple health check endpoint to ensure the service is up "
                "at any given point.",
                "responses": {"200": healthy, "default": failure},
            }
        },
        prefix + "/score": {"post": score},
        prefix + "/swagger.json": {
            "get": {
                "operationId": "GetSwaggerSpec",
                "description": "Get the Swagger specification.",
                "parameters": [version_parameter],
                "responses": {"200": document, "default": failure},
            }
        },
    }
