"""Reads the environment of a file, whatever its kind."""

from pathlib import Path, PurePath

from pydantic import ValidationError

from imagematrix.environments.conda_file import CondaReader, with_requirements
from imagematrix.environments.entries import Findings
from imagematrix.environments.inference_config import CondaFile
from imagematrix.environments.model import Decisions, Environment
from imagematrix.environments.requirements import RequirementsReader
from imagematrix.errors import Diagnostic, InputError
from imagematrix.files import Reader, read_text
from imagematrix.matrix.document import parse_document
from imagematrix.matrix.messages import schema_diagnostics


def read_into(
    path: Path, shown_as: PurePath, decisions: Decisions, findings: Findings, read: Reader
) -> Environment | None:
    """The environment of a file; None, with an error among the findings, where it has none."""
    if path.suffix == ".txt":
        return _of_requirements(path, shown_as, decisions, findings, read)
    if path.suffix not in (".yml", ".yaml"):
        hint = "name an env.yml, a requirements.txt or an inferenceconfig.json"
        findings.error(Diagnostic(shown_as, 0, 0, "", "is of no known kind", hint))
        return None
    try:
        document = parse_document(read_text(path, shown_as, read), shown_as)
    except InputError as error:
        findings.take(error)
        return None
    for diagnostic in document.errors:
        findings.error(diagnostic)
    try:
        section = CondaFile.model_validate(document.data)
    except ValidationError as error:
        for diagnostic in schema_diagnostics(document, CondaFile, error):
            findings.error(diagnostic)
        return None
    reader = CondaReader(document, (), path.parent, decisions, findings, read)
    return reader.environment(section)


def _of_requirements(
    path: Path, shown_as: PurePath, decisions: Decisions, findings: Findings, read: Reader
) -> Environment:
    reader = RequirementsReader(findings, read)
    reader.read_file(path, shown_as)
    return with_requirements(
        Environment(shown_as, series=decisions.python or decisions.default_python), reader
    )
