"""The JSON schemas by which editors complete and check the YAML files."""

import json
from pathlib import PurePosixPath

from pydantic import BaseModel

from imagematrix.matrix.slim import BaseSlim, FrameworkSlim

SLIM_SCHEMA = "slim.schema.json"


def render_schemas() -> dict[PurePosixPath, str]:
    """The text of each schema, under its path in the repository."""
    models: dict[PurePosixPath, type[BaseModel]] = {
        PurePosixPath("base", SLIM_SCHEMA): BaseSlim,
        PurePosixPath("frameworks", SLIM_SCHEMA): FrameworkSlim,
    }
    return {
        path: json.dumps(model.model_json_schema(), indent=2) + "\n"
        for path, model in models.items()
    }
