"""A small repository to test with, and the pieces that it is made of."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from imagematrix.errors import InputError
from imagematrix.files import write_atomically
from imagematrix.host.config import HostConfig, read_host_config
from imagematrix.matrix.lockfile import Lock, parse_lock
from imagematrix.matrix.rules import load_matrix
from imagematrix.matrix.variant import Variant, expand
from imagematrix.repository.project import Project

REPOSITORY = Path(__file__).resolve().parents[2]

# The tests of errors name its lines and columns.
MATRIX = f"""\
debian:
  trixie: ["3.12"]
tracks:
  current: {{pythons: ["3.12"], accelerators: [cpu], supported_until: 2098-12-31}}
sets: {{data: [pandas>=3]}}
indexes:
  extra:
    url: https://wheels.example/cpu
    packages: [torch]
wheels:
  - name: torch
    version: 2.0.0+cpu
    sha256: {{"3.12": {"b" * 64}}}
    requires: [filelock, "sympy>=1"]
frameworks:
  minimal:
    title: Python
    releases:
      - track: current
        pythons: ["3.12"]
        accelerators: [cpu]
        pins: [httptools==2.0]
  xgboost:
    title: XGBoost
    environment:
      XGBOOST_HOME: /tmp/xgboost
    releases:
      - version: "3.4"
        track: current
        pythons: ["3.12"]
        accelerators: [cpu]
        pins: [xgboost-cpu==3.4.1, numpy>=2]
  pytorch:
    title: PyTorch
    package: torch
    releases:
      - version: "2.0"
        index: extra
        sets: [data]
        pins: [torch==2.0.0+cpu]
"""

# In it nothing ends soon: commands read the clock.
ENDS = """\
as_of: 2026-11-28
python: {"3.12": 2098-12-31, "3.11": 2098-12-31}
debian: {trixie: {full: 2098-12-31, lts: 2098-12-31}}
"""
TODAY = datetime.date(2026, 11, 28)

# What every image does without, and what one framework does.
BASE_SLIM = """\
remove:
  type stubs: [site-packages/*.pyi]
source:
  pip: [site-packages/pip/*]
"""
XGBOOST_SLIM = """\
remove:
  test suites: [site-packages/xgboost/tests]
"""

MINIMAL = "minimal-py312-inference"
XGBOOST = "xgboost3.4-py312-inference"
PYTORCH = "pytorch2.0-py312-inference"

TEMPLATES = {
    "base/Dockerfile.j2": "FROM system-{{ variant.suite }}\n"
    'LABEL name="{{ variant.name }}"\nUSER 1000:1000\n',
    "base/system.Dockerfile.j2": "FROM {{ suite.debian_image }}\n",
    "base/tools.Dockerfile.j2": "FROM {{ suite.debian_image }}\n",
    "base/macros.j2": "{% macro system(variant) %}RUN true\n{% endmacro %}",
    "frameworks/Dockerfile.j2": '{% from "base/macros.j2" import system -%}\n'
    "ARG BASE_IMAGE={{ variant.parent }}\nFROM ${BASE_IMAGE}\n{{ system(variant) }}"
    "# {{ variant.title }}\nUSER 1000:1000\n",
}
PACKAGES = {
    MINIMAL: ("httptools==2.0",),
    XGBOOST: ("httptools==2.0", "numpy==2.1", "xgboost-cpu==3.4.1"),
    PYTORCH: ("httptools==2.0", "pandas==3.0", "torch==2.0.0+cpu"),
}


def errors_of(text: str | bytes, folder: Path) -> list[str]:
    """Each error of a matrix without the name of the file; empty for a matrix that is right."""
    path = folder / "matrix.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        load_matrix(path)
    except InputError as error:
        return [str(one).removeprefix("matrix.yaml:").strip() for one in error.diagnostics]
    return []


def changed(text: str, *changes: tuple[str, str]) -> str:
    """A text with parts replaced, each of which stands in it exactly once."""
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the text"
        text = text.replace(old, new)
    return text


def lock_text(requirements: Iterable[str], digest: str = "0" * 64) -> str:
    """A lock of these pins, each with one hash."""
    pins = "".join(f"{pin} \\\n    --hash=sha256:{digest}\n" for pin in requirements)
    return f"# Written by `nox -s lock`. Do not edit.\n{pins}"


def lock_of(*requirements: str, digest: str = "0" * 64) -> Lock:
    """The same, read."""
    return parse_lock(lock_text(requirements, digest), PurePath("requirements.txt"))


def host_config(**settings: Any) -> HostConfig:
    """The configuration of a host where nothing is configured but what is given."""
    nowhere = Path("/nonexistent")
    return replace(read_host_config({}, nowhere, nowhere), **settings)


@dataclass(frozen=True)
class Repository:
    """A repository in a temporary folder, complete and right until a test changes it."""

    root: Path

    @classmethod
    def write(cls, root: Path) -> "Repository":
        """Writes one whose check passes."""
        repository = cls(root)
        repository.put("matrix.yaml", MATRIX)
        repository.put("ends-of-life.yaml", ENDS)
        repository.put("README.md", "# Images\n<!-- images -->\n<!-- /images -->\nThe end.\n")
        for path in ("base/server/app.py", "base/tools/bin/finish.py", "base/dpkg-excludes"):
            repository.put(path, "pass\n")
        repository.put("base/slim.yaml", BASE_SLIM)
        repository.put("frameworks/xgboost/slim.yaml", XGBOOST_SLIM)
        for path, text in TEMPLATES.items():
            repository.put(path, text)
        for variant in repository.project.variants:
            repository.put(str(variant.lock), lock_text(PACKAGES[variant.name]))
            for name in ("score.py", "request.json", "response.json"):
                repository.put(str(variant.example / name), "{}\n")
            repository.put(f"examples/{variant.framework}/train.py", "pass\n")
        repository.render()
        return repository

    @property
    def project(self) -> Project:
        """As a command sees it that starts now."""
        return Project(self.root)

    def put(self, path: str, text: str) -> None:
        """Writes a file."""
        write_atomically(self.root / path, text)

    def change(self, path: str, *changes: tuple[str, str]) -> None:
        """Replaces parts of a file, each of which stands in it exactly once."""
        self.put(path, changed((self.root / path).read_text(), *changes))

    def render(self) -> None:
        """Writes the files that the matrix gives."""
        for path, text in self.project.rendered().items():
            self.put(str(path), text)

    def variant(self, name: str) -> Variant:
        """One of its images."""
        return {variant.name: variant for variant in self.project.variants}[name]

    def problems(self, today: datetime.date = TODAY) -> list[str]:
        """The errors that `check` finds on a day, each as one line."""
        try:
            self.project.check(today, Path("/nonexistent"))
        except InputError as error:
            return [str(one) for one in error.diagnostics]
        return []

    def files(self) -> dict[str, bytes]:
        """The content of every file."""
        found = (path for path in sorted(self.root.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in found}


def variants_of(text: str, folder: Path) -> tuple[Variant, ...]:
    """The images of a matrix that is right."""
    path = folder / "matrix.yaml"
    path.write_text(text)
    return expand(load_matrix(path))
