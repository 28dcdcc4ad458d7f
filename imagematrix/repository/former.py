"""docs/where-did-it-go.md: what takes the place of the images that people know from elsewhere.

The names are those of the Azure Machine Learning inference images: the table of 2021 with
Python 3.7, what this repository has added in its form, and the custom base images of before.
"""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from imagematrix.matrix.schema import MINIMAL, Accelerator, Track
from imagematrix.matrix.selection import newest, successor
from imagematrix.matrix.variant import Variant

FORMER = PurePosixPath("docs/where-did-it-go.md")


@dataclass(frozen=True)
class FormerName:
    """A name that people know, and the kind of image that it is.

    `same` is the name of the image here with the same content, by default the same name; "" where
    there is none. Its successor is the newest image of its framework and accelerator, or the one
    whose name matches the shell pattern `preferred`, if there is one. `note` says what to know, in
    Markdown: why an image is missing, and what to use instead.
    """

    name: str
    framework: str
    accelerator: Accelerator = Accelerator.CPU
    same: str | None = None
    preferred: str = ""
    note: str = ""


_TENSORFLOW_CPU = "`tensorflow-cpu` of the same version, without CUDA code"
_TORCH = "PyPI's wheel, which carries CUDA 10.2"

HISTORICAL = (
    FormerName("minimal-py3.7-inference-cpu", MINIMAL),
    FormerName("scikit-learn0.24.1-py3.7-inference-cpu", "scikit-learn"),
    FormerName("xgboost0.9-py3.7-inference-cpu", "xgboost"),
    FormerName("xgboost1.4-py3.7-inference-cpu", "xgboost"),
    FormerName("onnxruntime1.6-py3.7-inference-cpu", "onnxruntime"),
    FormerName("onnxruntime0.4-py3.7-inference-cpu", "onnxruntime"),
    FormerName("tensorflow1.15-py3.7-inference-cpu", "tensorflow", note=_TENSORFLOW_CPU),
    FormerName("tensorflow2.4-py3.7-inference-cpu", "tensorflow", note=_TENSORFLOW_CPU),
    FormerName(
        "tensorflow2.4-py3.7-inference-gpu",
        "tensorflow",
        Accelerator.CUDA,
        note="built only where `nvidia/cuda`, which has CUDA 11.0.3, can be pulled",
    ),
    FormerName("pytorch1.6-py3.7-inference-cpu", "pytorch", note=_TORCH),
    FormerName("pytorch1.7-py3.7-inference-cpu", "pytorch", note=_TORCH),
)

_OLD_MODELS = "newer releases run the ONNX models of older ones"
CUSTOM_BASES = (
    FormerName(
        "ubuntu-miniconda",
        MINIMAL,
        same="",
        preferred="minimal-py*-conda-inference",
        note="Debian instead of Ubuntu, and not root: `USER root` before `apt-get`. An image"
        " without `conda` in its name has none: [pip adds packages]"
        "(use-the-images.md#more-packages)",
    ),
    FormerName(
        "onnxruntime:v0.4.0", "onnxruntime", same="onnxruntime0.4-py3.7-inference-cpu",
        note=_OLD_MODELS,
    ),
    FormerName(
        "onnxruntime:v0.4.0-cuda10.0-cudnn7",
        "onnxruntime",
        Accelerator.CUDA,
        same="",
        note=f"PyPI has no wheel of `onnxruntime-gpu` 0.4.0; {_OLD_MODELS}",
    ),
    FormerName(
        "onnxruntime:v0.4.0-tensorrt19.03",
        "onnxruntime",
        Accelerator.TENSORRT,
        same="",
        note=f"there is no wheel of ONNX Runtime 0.4.0 with TensorRT; {_OLD_MODELS}",
    ),
)  # fmt: skip


def where_it_went(variants: Sequence[Variant]) -> str:
    """The page, as Markdown, for the images there are."""
    historical, custom = (_table(names, variants) for names in (HISTORICAL, CUSTOM_BASES))
    return _PAGE.format(support=Track.HISTORICAL.support, historical=historical, custom=custom)


def image_for(name: str, variants: Sequence[Variant]) -> Variant | None:
    """The image here for a former name, with or without its registry's tag `latest`: the one with
    the same content, else its successor. None for other names."""
    known = {former.name: former for former in (*HISTORICAL, *CUSTOM_BASES)}
    former = known.get(name.removesuffix(":latest"))
    if former is None:
        return None
    return _same(former, variants) or _current(former, variants)


def _table(names: Iterable[FormerName], variants: Sequence[Variant]) -> str:
    rows = ["| you used | the same content here | its successor | to know |", "|---|---|---|---|"]
    for former in names:
        same, current = _same(former, variants), _current(former, variants)
        cells = [f"`{variant.name}`" if variant else "none" for variant in (same, current)]
        if same is not None and same.name == former.name:
            cells[0] = "under this name"
        rows.append(f"| {' | '.join([f'`{former.name}`', *cells, former.note])} |")
    return "\n".join(rows)


def _same(former: FormerName, variants: Sequence[Variant]) -> Variant | None:
    name = former.name if former.same is None else former.same
    return next((variant for variant in variants if variant.name == name), None)


def _current(former: FormerName, variants: Sequence[Variant]) -> Variant | None:
    preferred = [v for v in variants if fnmatch.fnmatchcase(v.name, former.preferred)]
    if preferred:
        return preferred[0]
    same = _same(former, variants)
    if same is not None:
        return successor(same, variants)
    return newest(variants, former.framework, former.accelerator)


_PAGE = """\
<!-- Written by `nox -s render`. Do not edit. -->
# Where did it go?

You know an image of Azure Machine Learning, or a base image of one of its recipes, by name. This
page has what takes its place. Names are local: put the registry that has these images before.

"The same content" is an image with the same release of the framework, the pins that were promised,
and Python 3.7. It is historical: {support}.

"Its successor" is the newest current image for the same framework on the same hardware. Scripts run
on it without a change, if their packages do; a model may have to be converted or trained again.
[images.md](images.md) has the pins of each image.

## Images with Python 3.7

{historical}

## Custom base images

{custom}

## Another name

Start from the image of the framework, or from a minimal image, and
[add packages](use-the-images.md#more-packages). Or [add an image](add-an-image.md) here. An
inferenceconfig.json that names one of these base images gets the image in its place
([deployments](deployments.md)).
"""
