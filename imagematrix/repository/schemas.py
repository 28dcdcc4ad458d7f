"""The JSON schemas by which editors complete and check the YAML files."""

import json
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from imagematrix.matrix.schema import MatrixSpec
from imagematrix.matrix.slim import BaseSlim, FrameworkSlim

MATRIX_SCHEMA = PurePosixPath("matrix.schema.json")
SLIM_SCHEMA = "slim.schema.json"


class _Schema(GenerateJsonSchema):
    """Without titles, which repeat the names of the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def render_schemas() -> dict[PurePosixPath, str]:
    """The text of each schema, under its path in the repository."""
    models: dict[PurePosixPath, type[BaseModel]] = {
        MATRIX_SCHEMA: MatrixSpec,
        PurePosixPath("base", SLIM_SCHEMA): BaseSlim,
        PurePosixPath("frameworks", SLIM_SCHEMA): FrameworkSlim,
    }
    return {path: _text(model) for path, model in models.items()}


def _text(model: type[BaseModel]) -> str:
    schema = model.model_json_schema(schema_generator=_Schema)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(_strict(schema), indent=2) + "\n"


def _strict(node: Any) -> Any:
    """The schema without keys of another form: by itself, a pattern of keys admits others, too."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    strict = {key: _strict(value) for key, value in node.items()}
    return {**strict, "additionalProperties": False} if "patternProperties" in node else strict
