"""The files that a matrix gives: a Dockerfile for each image, and the table in the README."""

import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import astuple
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2

from imagematrix.budget import Measured
from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix import Track
from imagematrix.variant import Variant

README = PurePosixPath("README.md")
CATALOGUE = PurePosixPath("docs/images.md")
_TABLE = re.compile(r"(<!-- images -->\n).*?(<!-- /images -->)", re.DOTALL)


class _Environment(jinja2.Environment):
    """Its templates share its globals; in Jinja each has a ChainMap over them, in which the names
    are looked up one by one for each rendering."""

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        return super().make_globals(d) if d else self.globals


def render_dockerfiles(root: Path, variants: Iterable[Variant]) -> dict[PurePosixPath, str]:
    """The text of each image's Dockerfile, under its path relative to `root`.

    Raises InputError for a template that is missing or wrong, with its line.
    """
    environment = _Environment(
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        # No template changes while this runs, and none is compiled twice.
        auto_reload=False,
        cache_size=-1,
    )
    files: dict[PurePosixPath, str] = {}
    errors: dict[str, Diagnostic] = {}
    for variant in variants:
        template = str(variant.template)
        try:
            text = environment.get_template(template).render(variant=variant)
        except jinja2.TemplateNotFound as error:
            file = PurePosixPath(error.name or template)
            message = f"missing template of {variant.name}"
            errors.setdefault(str(file), Diagnostic(file, 0, 0, "", message))
        except jinja2.TemplateSyntaxError as error:
            file = PurePosixPath(error.name or template)
            errors[str(file)] = Diagnostic(file, error.lineno, 1, "", str(error.message))
        except Exception as error:  # What a template computes may raise anything.
            file, line = _place(error, root, variant.template)
            message = str(error) if isinstance(error, jinja2.TemplateError) else repr(error)
            errors[str(file)] = Diagnostic(file, line, 1 if line else 0, "", message)
        else:
            header = f"# Rendered from {template} by `nox -s render`. Do not edit.\n"
            files[variant.dockerfile] = header + text.lstrip("\n")
    if errors:
        raise InputError(list(errors.values()))
    return files


def _place(error: Exception, root: Path, template: PurePosixPath) -> tuple[PurePosixPath, int]:
    """The innermost template and line in the traceback, which Jinja rewrites to those."""
    file, line, traceback = template, 0, error.__traceback__
    while traceback is not None:
        name = Path(traceback.tb_frame.f_code.co_filename)
        if name.suffix == ".j2" and name.is_relative_to(root):
            file, line = PurePosixPath(name.relative_to(root)), traceback.tb_lineno
        traceback = traceback.tb_next
    return file, line


def image_table(variants: Sequence[Variant], megabytes: Mapping[str, float]) -> str:
    """The images as a Markdown table for each track; `megabytes` holds the uncompressed size of
    those measured. Pins of CUDA's own libraries are left out: their version is told beside."""
    tables = []
    for track in Track:
        of_track = [variant for variant in variants if variant.track is track]
        if not of_track:
            continue
        rows = ["| image | Python | on | pins | size |", "|---|---|---|---|---:|"]
        if track is not Track.CURRENT:
            rows = [f"{track.capitalize()}: {track.support}.", "", *rows]
        for variant in of_track:
            size = megabytes.get(variant.name)
            pins = [f"`{pin}`" for pin in variant.pins if not pin.startswith("nvidia-")]
            shown = f"{size:,.0f} MB" if size is not None else "not measured"
            cells = [f"`{variant.name}`", variant.python, _on(variant), ", ".join(pins), shown]
            rows.append(f"| {' | '.join(cells)} |")
        tables.append("\n".join(rows) + "\n")
    return "\n".join(tables)


def _on(variant: Variant) -> str:
    carried = variant.bundled_cuda
    return f"{variant.platform} (a package carries CUDA {carried})" if carried else variant.platform


def catalogue(variants: Sequence[Variant], measured: Mapping[str, Measured]) -> str:
    """Every image with all that is known of it, as a Markdown page."""
    rows = [
        "| image | framework | Python | on | cuDNN | pins | uncompressed | compressed | layers |",
        "|---|---|---|---|---|---|---:|---:|---|",
    ]
    for variant in variants:
        framework = f"{variant.title} {variant.version}" if variant.version else ""
        pins = ", ".join(f"`{pin}`" for pin in variant.pins)
        cudnn = variant.cuda.cudnn or "" if variant.cuda else ""
        record, parent = measured.get(variant.name), measured.get(variant.parent or "")
        sizes, layers = ["not measured", "not measured"], ""
        if record is not None:
            sizes = [f"{size / 1e6:,.0f} MB" for size in astuple(record.size)]
            shared = f", {parent.layers} of `{variant.parent}`" if parent else ""
            layers = f"{record.layers}{shared}"
        cells = [f"`{variant.name}`", framework, variant.python, _on(variant), cudnn, pins]
        rows.append(f"| {' | '.join([*cells, *sizes, layers])} |")
    return _CATALOGUE.format(track=Track.HISTORICAL, support=Track.HISTORICAL.support) + "\n".join(
        [*rows, ""]
    )


_CATALOGUE = """\
<!-- Written by `nox -s render` and `nox -s budget -- --update`. Do not edit. -->
# Every image

MB are 10^6 bytes: the layers as archives, and the same packed with zstd, as a registry gets them.
"On" is what an image computes on, with the version of the CUDA runtime in it. The layers that an
image has of its parent, a host holds once. Images of Python 3.7 are {track}: {support}.

"""


def render_readme(text: str, table: str) -> str:
    """The README with the table between its two marks. Raises InputError where they are missing."""
    if not _TABLE.search(text):
        message = "the marks <!-- images --> … <!-- /images --> are missing"
        raise InputError(
            [Diagnostic(README, 0, 0, "", message, "the table of images stands there")]
        )
    return _TABLE.sub(lambda match: match[1] + table + match[2], text)
