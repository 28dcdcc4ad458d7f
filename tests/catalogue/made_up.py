"""What might be published of the images of this repository: several tags with changes, one that is
held, fixes that are pending, an image without an audit, a retired one, and one that is gone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from imagematrix.audit.findings import Finding, Kind, Severity, Status
from imagematrix.catalogue.published import (
    Attachment,
    Audit,
    Check,
    Layer,
    Publications,
    Published,
    PublishedTag,
)
from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.matrix.variant import Variant
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import Change, ReleaseStatement
from imagematrix.repository.sizes import Budgets
from tests.example_images import example

TODAY = date(2026, 11, 28)
PREFIX = "ghcr.io/example"
SOURCE = "https://github.com/example/inference-images"
GONE = "xgboost3.3-py312-inference"
HELD = example("lightgbm").name
PENDING = example("onnxruntime").name
NOT_AUDITED = example("tensorflow").name
RETIRED = example("scikit-learn", track=Track.HISTORICAL).name
REFUSED = example("onnxruntime", Accelerator.TENSORRT).name
UNPUBLISHED = example("pytorch").name

_DEBIAN = {
    "base-files": ("13.8+deb13u2", "GPL-2+"),
    "bash": ("5.2.37-2+b5", "GPL-3+"),
    "ca-certificates": ("20250419", "GPL-2+, MPL-2.0"),
    "coreutils": ("9.7-3", "GPL-3+"),
    "libbz2-1.0": ("1.0.8-6", "BSD-variant"),
    "libc6": ("2.41-12+deb13u2", "LGPL-2.1+, GPL-2+"),
    "libffi8": ("3.4.8-2", "Expat"),
    "libgomp1": ("14.2.0-19", "GPL-3+ with GCC exception"),
    "liblzma5": ("5.8.1-1", "0BSD, GPL-2+"),
    "libsqlite3-0": ("3.46.1-7", "public-domain"),
    "libssl3t64": ("3.5.4-1~deb13u2", "Apache-2.0"),
    "tini": ("0.19.0-3+b3", "Expat"),
    "tzdata": ("2026c-0+deb13u1", "public-domain"),
    "zlib1g": ("1:1.3.dfsg+really1.3.1-1+b1", "Zlib"),
}
_LICENCES = {
    "httptools": "MIT",
    "numpy": "BSD-3-Clause",
    "pandas": "BSD-3-Clause",
    "pip": "MIT",
    "scipy": "BSD-3-Clause",
    "scikit-learn": "BSD-3-Clause",
    "xgboost-cpu": "Apache-2.0",
    "lightgbm": "MIT",
    "torch": "BSD-3-Clause",
    "tensorflow-cpu": "Apache-2.0",
    "python-dateutil": "Apache-2.0, BSD-3-Clause",
}
# The first tag, and what each one after it brought.
_HISTORY: tuple[tuple[str, str, tuple[Change, ...]], ...] = (
    ("20260930.v1", "2026-09-30T03:14:07Z", ()),
    (
        "20261012.v1",
        "2026-10-12T03:12:55Z",
        (
            Change("pypi", "pandas", "3.1.0", "3.1.1"),
            Change("deb", "tzdata", "2026b-0+deb13u1", "2026c-0+deb13u1"),
        ),
    ),
    (
        "20261029.v1",
        "2026-10-29T03:15:31Z",
        (
            Change("cve", "CVE-2026-40117", "", "libssl3t64 3.5.4-1~deb13u1"),
            Change("deb", "libssl3t64", "3.5.1-1+deb13u1", "3.5.4-1~deb13u1"),
            Change("deb", "openssl-provider-legacy", "3.5.1-1+deb13u1", "3.5.4-1~deb13u1"),
        ),
    ),
    (
        "20261111.v1",
        "2026-11-11T03:13:02Z",
        (
            Change("python", "CPython", "3.12.12", "3.12.13"),
            Change("pypi", "numpy", "2.5.4", "2.5.5"),
            Change("pypi", "python-dateutil", "3.0.0", "4.0.0"),
            Change("base", "debian:trixie-slim", f"sha256:{'1f' * 32}", f"sha256:{'9b' * 32}"),
        ),
    ),
    (
        "20261111.v2",
        "2026-11-11T16:40:20Z",
        (Change("pypi", "six", "1.17.0", ""), Change("pypi", "tzdata", "", "2026.6")),
    ),
    (
        "20261126.v1",
        "2026-11-26T03:14:44Z",
        (
            Change("cve", "CVE-2026-41288", "", "libc6 2.41-12+deb13u2"),
            Change("cve", "CVE-2026-41301", "", "libssl3t64 3.5.4-1~deb13u2"),
            Change("size", "compressed", "81800000", "83100000"),
            Change("deb", "libc-bin", "2.41-12+deb13u1", "2.41-12+deb13u2"),
            Change("deb", "libc6", "2.41-12+deb13u1", "2.41-12+deb13u2"),
            Change("deb", "libssl3t64", "3.5.4-1~deb13u1", "3.5.4-1~deb13u2"),
        ),
    ),
)
_CHECKS = (
    Check("the server answers the example"),
    Check("the user is not root"),
    Check("the root file system may be read-only"),
    Check("every locked package is installed, and no other one"),
    Check("every module can be imported"),
    Check("pip installs for any user"),
    Check("no setuid program"),
    Check("SIGTERM ends it with exit code 0"),
    Check("the size is within its budget"),
    Check("a GPU computes the example", "this machine has no GPU"),
)
_SUPPORT = {"scikit-learn": "2027-02-10", "tensorflow": "2026-12-31", "minimal": "2028-10-31"}


def digest(*parts: str) -> str:
    """A digest that is the same for the same words."""
    return f"sha256:{hashlib.sha256(' '.join(parts).encode()).hexdigest()}"


def publications(variants: Sequence[Variant], budgets: Budgets) -> Publications:
    """What might be published of these images, whose sizes are `budgets`."""
    names = {variant.name for variant in variants}
    images = [
        _image(variant, budgets)
        for variant in variants
        if variant.name not in (REFUSED, UNPUBLISHED)
        and (variant.track is Track.CURRENT or variant.name == RETIRED)
    ]
    like = next((v for v in variants if v.framework == "xgboost"), None)
    if like and GONE not in names:
        images.append(_gone(like))
    return Publications(
        prefix=PREFIX,
        images=tuple(images),
        refused={REFUSED: "Its package index cannot be reached (pypi.nvidia.com)."},
        upstream={
            "scikit-learn": "1.9.1",
            "xgboost": "3.4.1",
            "lightgbm": "4.8.0",
            "onnxruntime": "1.31.1",
            "tensorflow": "2.22.0",
            "pytorch": "2.13.0",
        },
    )


def _image(variant: Variant, budgets: Budgets) -> Published:
    # Retired images and those with CUDA have fewer tags.
    count = 1 if variant.track is not Track.CURRENT else 2 if variant.cuda else len(_HISTORY)
    measured = budgets.measured.get(variant.name)
    uncompressed, compressed = (
        (measured.size.uncompressed, measured.size.compressed)
        if measured
        else (700_000_000, 170_000_000)
    )
    packages = dict(measured.packages) if measured else {"httptools": "0.9.0", "pip": "26.3"}
    tags = []
    previous = ""
    for i, (tag, published, changes) in enumerate(_HISTORY[-count:]):
        shrink = 1 - 0.012 * (count - 1 - i) + 0.004 * (i % 3)
        tags.append(
            _tag(
                variant,
                tag,
                published,
                previous,
                changes if previous else (),
                packages,
                (round(uncompressed * shrink), round(compressed * shrink)),
            )
        )
        previous = tag
    tags.reverse()
    if variant.name == HELD:
        tags[0] = replace(tags[0], statement=replace(tags[0].statement, held=_HELD))
    return Published(
        variant.name,
        tuple(tags),
        latest=tags[1].tag if variant.name == HELD else tags[0].tag,
        audit=Audit("2026-11-28T02:10:00Z", _findings(variant.name)),
    )


_HELD = (
    "numpy jumped from 1.26.4 to 2.5.5, a new major version of a promised package. Publish it"
    " under a new name, or accept the jump."
)


def _findings(name: str) -> tuple[Finding, ...]:
    if name == PENDING:
        return (
            Finding(
                Kind.DEB,
                "libssl3t64",
                "3.5.4-1~deb13u2",
                Status.PENDING,
                "3.5.4-1~deb13u3",
                ("CVE-2026-43710", "CVE-2026-43711"),
                hours=61.5,
            ),
            Finding(
                Kind.PYPI,
                "protobuf",
                "7.36.2",
                Status.PENDING,
                "7.36.3",
                ("GHSA-9xq2-7v4c-m3pf",),
                Severity.OTHER,
                hours=20,
            ),
        )
    if name == NOT_AUDITED:
        why = "the security archive's index has expired"
        return (Finding(Kind.DEB, "libc6", "2.41-12", Status.NOT_AUDITED, detail=why),)
    if name.startswith("tensorflow"):
        return (
            Finding(
                Kind.PYPI,
                "requests",
                "2.34.0",
                Status.PENDING,
                "2.34.1",
                ("CVE-2026-42999",),
                Severity.OTHER,
                hours=190,
            ),
        )
    return ()


def _tag(
    variant: Variant,
    tag: str,
    published: str,
    previous: str,
    changes: tuple[Change, ...],
    packages: Mapping[str, str],
    sizes: tuple[int, int],
) -> PublishedTag:
    name = variant.name
    uncompressed, compressed = sizes
    image = digest(name, tag)
    root = variant.parent or name
    base = [
        Layer(digest(root, tag, part), size) for part, size in (("a", 21_400_000), ("b", 9_100_000))
    ]
    own = (
        [Layer(digest(name, tag, "own"), max(compressed - 30_500_000, 1000))]
        if variant.parent
        else []
    )
    statement = ReleaseStatement(
        name=name,
        tag=tag,
        digest=image,
        previous=previous,
        published=published,
        platform="linux/amd64",
        source=SOURCE,
        commit=hashlib.sha256(tag.encode()).hexdigest()[:40],
        key=hashlib.sha256(image.encode()).hexdigest()[:16],
        framework=variant.framework,
        track=variant.track,
        python=f"{variant.python}.13",
        cuda=variant.cuda.version if variant.cuda else "",
        supported_until=_SUPPORT.get(variant.framework, "2027-09-30")
        if variant.track is Track.CURRENT
        else "",
        base=f"debian:{variant.suite}-slim@{digest('debian', tag)}",
        suite=variant.suite,
        pins=variant.pins,
        packages=packages,
        debian={package: version for package, (version, _) in _DEBIAN.items()},
        uncompressed=uncompressed,
        compressed=compressed,
        changes=changes,
        allowed={"pending": "the fix of protobuf fails on Python 3.12"} if name == PENDING else {},
    )
    return PublishedTag(
        tag,
        image,
        statement,
        layers=(*base, *own),
        attachments=tuple(
            Attachment(predicate, digest(image, predicate), digest(image, predicate, "blob"), size)
            for predicate, size in zip(
                Predicate, (8_120, 310_400, 284_900, 19_300, 6_700), strict=True
            )
        ),
        checks=_CHECKS,
        licences={
            "deb": {package: (licence,) for package, (_, licence) in _DEBIAN.items()},
            "pypi": {package: (licence,) for package, licence in _LICENCES.items()},
        },
        supported=tag != _HISTORY[0][0],
    )


def _gone(like: Variant) -> Published:
    """An image that was published, and that the matrix has no more."""
    old = _image(like, Budgets()).tags[-1]
    statement = ReleaseStatement(
        **{
            **vars(old.statement),
            "name": GONE,
            "digest": digest(GONE),
            "pins": ("xgboost-cpu==3.3.2", "numpy==2.5.4"),
            "previous": "",
        }
    )
    return Published(GONE, (PublishedTag(old.tag, digest(GONE), statement),), latest=old.tag)
