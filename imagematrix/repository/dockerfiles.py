"""The Dockerfile of each image, from its template."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2

from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix.platforms import CREATED, LICENCES
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import TOOLS_DOCKERFILE, TOOLS_SUITE

TOOLS_TEMPLATE = PurePosixPath("base/tools.Dockerfile.j2")
# The folder with the files of the tools image in the context of an environment's build.
TOOLS_IN_CONTEXT = PurePosixPath("tools")
SYSTEM_TEMPLATE = PurePosixPath("base/system.Dockerfile.j2")


def render_dockerfiles(root: Path, variants: Iterable[Variant]) -> dict[PurePosixPath, str]:
    """The text of each Dockerfile, under its path relative to `root`: that of every image, of the
    Debian that images without a parent start from, and of the tools image.

    Raises InputError for a template that is missing or wrong, with its line.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        # No template changes while this runs, and none is compiled twice.
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters["word"] = _word
    environment.globals |= {"created": CREATED, "licences": LICENCES}
    files: dict[PurePosixPath, str] = {}
    errors: dict[str, Diagnostic] = {}
    for path, (template, values, session) in _jobs(variants).items():
        try:
            text = environment.get_template(str(template)).render(values)
        except Exception as error:  # What a template computes may raise anything.
            diagnostic = _diagnostic(error, root, template, path)
            errors.setdefault(str(diagnostic.file), diagnostic)
        else:
            header = f"# Rendered from {template} by `nox -s {session}`. Do not edit.\n"
            files[path] = header + text.lstrip("\n")
    if errors:
        raise InputError(list(errors.values()))
    return files


def _jobs(
    variants: Iterable[Variant],
) -> dict[PurePosixPath, tuple[PurePosixPath, dict[str, Any], str]]:
    """The template of each Dockerfile, what it is given, and the session that writes it."""
    jobs: dict[PurePosixPath, tuple[PurePosixPath, dict[str, Any], str]] = {}
    for variant in variants:
        # `at` is the folder of the tools' files in the build context.
        tools = {"suite": TOOLS_SUITE, "at": ""}
        jobs[TOOLS_DOCKERFILE] = (TOOLS_TEMPLATE, tools, "render")
        if variant.parent is None:
            jobs[variant.system_dockerfile] = (SYSTEM_TEMPLATE, {"suite": variant.suite}, "render")
        values: dict[str, Any] = {"variant": variant}
        if variant.is_environment:
            values |= {**tools, "at": f"{TOOLS_IN_CONTEXT}/"}
        jobs[variant.dockerfile] = (variant.template, values, variant.rendered_by)
    return jobs


# What a value of ENV may hold without quotes.
_PLAIN = re.compile(r"[\w./:=,@%+-]+", re.ASCII)


def _word(value: str) -> str:
    """A value of `ENV`: in quotes if Docker would take it for something else without.

    https://docs.docker.com/reference/dockerfile/#environment-replacement
    """
    if _PLAIN.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


def _diagnostic(
    error: Exception, root: Path, template: PurePosixPath, path: PurePosixPath
) -> Diagnostic:
    """What is wrong with a template, and where."""
    if isinstance(error, jinja2.TemplateNotFound):
        file = PurePosixPath(error.name or template)
        return Diagnostic(file, 0, 0, "", f"missing template of {path}")
    if isinstance(error, jinja2.TemplateSyntaxError):
        file = PurePosixPath(error.name or template)
        return Diagnostic(file, error.lineno, 1, "", str(error.message))
    file, line = _place(error, root, template)
    message = str(error) if isinstance(error, jinja2.TemplateError) else repr(error)
    return Diagnostic(file, line, 1 if line else 0, "", message)


def _place(error: Exception, root: Path, template: PurePosixPath) -> tuple[PurePosixPath, int]:
    """The innermost template and line in the traceback, which Jinja rewrites to those."""
    file, line, traceback = template, 0, error.__traceback__
    while traceback is not None:
        name = Path(traceback.tb_frame.f_code.co_filename)
        if name.suffix == ".j2" and name.is_relative_to(root):
            file, line = PurePosixPath(name.relative_to(root)), traceback.tb_lineno
        traceback = traceback.tb_next
    return file, line
