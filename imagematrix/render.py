"""The files that a matrix gives: a Dockerfile for each image, and the table in the README."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import jinja2

from imagematrix.errors import Diagnostic, InputError, UserError
from imagematrix.variant import Variant

README = PurePosixPath("README.md")
_TABLE = re.compile(r"(<!-- images -->\n).*?(<!-- /images -->)", re.DOTALL)


def render_dockerfiles(root: Path, variants: Iterable[Variant]) -> dict[PurePosixPath, str]:
    """The text of each image's Dockerfile, under its path relative to `root`.

    Raises InputError for a template that is missing or wrong, with its line.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    files: dict[PurePosixPath, str] = {}
    errors: dict[str, Diagnostic] = {}
    for variant in variants:
        template = str(variant.template)
        try:
            text = environment.get_template(template).render(variant=variant)
        except jinja2.TemplateNotFound as error:
            file = PurePosixPath(error.name or template)
            errors[str(file)] = Diagnostic(file, 0, 0, "", f"missing template of {variant.name}")
        except jinja2.TemplateSyntaxError as error:
            file = PurePosixPath(error.name or template)
            errors[str(file)] = Diagnostic(file, error.lineno, 1, "", str(error.message))
        except jinja2.UndefinedError as error:
            file = PurePosixPath(template)
            errors[str(file)] = Diagnostic(file, _line(error, root), 1, "", str(error.message))
        else:
            header = f"# Rendered from {template} by `nox -s render`. Do not edit.\n"
            files[variant.dockerfile] = header + text.lstrip("\n")
    if errors:
        raise InputError(list(errors.values()))
    return files


def _line(error: jinja2.UndefinedError, root: Path) -> int:
    """The innermost line of a template in the traceback, which Jinja rewrites to template lines."""
    line, traceback = 1, error.__traceback__
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name.startswith(str(root)) and name.endswith(".j2"):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def image_table(variants: Sequence[Variant], megabytes: Mapping[str, float]) -> str:
    """The images as a Markdown table; `megabytes` holds the uncompressed size of those measured."""
    rows = ["| image | Python | accelerator | pins | size |", "|---|---|---|---|---:|"]
    for variant in variants:
        size = megabytes.get(variant.name)
        pins = ", ".join(f"`{pin}`" for pin in variant.pins)
        shown = f"{size:,.0f} MB" if size is not None else "not measured"
        rows.append(
            f"| `{variant.name}` | {variant.python} | {variant.accelerator} | {pins} | {shown} |"
        )
    return "\n".join(rows) + "\n"


def render_readme(text: str, table: str) -> str:
    """The README with the table between its two marks. Raises UserError where they are missing."""
    if not _TABLE.search(text):
        raise UserError(f"{README}: the marks <!-- images --> … <!-- /images --> are missing")
    return _TABLE.sub(lambda match: match[1] + table + match[2], text)
