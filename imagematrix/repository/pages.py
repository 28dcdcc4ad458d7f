"""The pages that name images: the table of the README, docs/images.md, and examples in all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import PurePosixPath

from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.matrix.selection import newest
from imagematrix.matrix.variant import Variant
from imagematrix.repository.sizes import Measured

README = PurePosixPath("README.md")
DOCS = PurePosixPath("docs")
CATALOGUE = DOCS / "images.md"
_TABLE = re.compile(r"(<!-- images -->\n).*?(<!-- /images -->)", re.DOTALL)

# The name of an image: framework, its version, Python, accelerators or track.
_NAME = re.compile(
    r"\b(?P<framework>[a-z][a-z-]*[a-z])[\d.]*-py[\d.]+"
    r"(?P<cuda>-cuda[\d.]*)?(?P<tensorrt>-tensorrt[\d.]*)?-inference(?P<old>-[a-z]+)?\b"
)


def image_table(variants: Sequence[Variant], megabytes: Mapping[str, float]) -> str:
    """The images as a Markdown table for each track; `megabytes` holds the uncompressed size of
    those measured. Pins of CUDA's own libraries are left out: their version stands beside."""
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
        "| image | framework | Python | on | cuDNN | pins | supported until | uncompressed"
        " | compressed | layers |",
        "|---|---|---|---|---|---|---|---:|---:|---|",
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
        until = f"{variant.supported_until or 'unsupported'}"
        cells = [f"`{variant.name}`", framework, variant.python, _on(variant), cudnn, pins, until]
        rows.append(f"| {' | '.join([*cells, *sizes, layers])} |")
    return _CATALOGUE.format(track=Track.HISTORICAL, support=Track.HISTORICAL.support) + "\n".join(
        [*rows, ""]
    )


_CATALOGUE = """\
<!-- Written by `nox -s render` and `nox -s budget -- --update`. Do not edit. -->
# Every image

MB are 10^6 bytes: the layers as archives, and compressed with zstd, as a registry gets them.
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


def with_images_there_are(text: str, variants: Sequence[Variant]) -> str:
    """A page in which each name of an image that is gone is that of the newest image of its kind,
    so that a new version of a framework needs no edit by hand. Names of no kind that there is stay.
    """
    names = {variant.name for variant in variants}

    def now(match: re.Match[str]) -> str:
        if match[0] in names:
            return match[0]
        track = Track.HISTORICAL if match["old"] else Track.CURRENT
        accelerator = Accelerator.CPU
        if match["tensorrt"] or match["old"] == "-tensorrt":
            accelerator = Accelerator.TENSORRT
        elif match["cuda"] or match["old"] == "-gpu":
            accelerator = Accelerator.CUDA
        image = newest(variants, match["framework"], accelerator, track)
        return image.name if image else match[0]

    return _NAME.sub(now, text)
