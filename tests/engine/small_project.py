"""A repository with the minimal image of this one and four small images on it: two build, one has a
wrong hash, and one takes its time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from imagematrix.files import write_atomically
from imagematrix.repository.locking import lock_header
from imagematrix.repository.project import Project
from tests.engine.conftest import ROOT
from tests.example_images import example

PARENT = example().name
_FRAMEWORKS = ("good", "other", "corrupt", "slow")
GOOD, OTHER, CORRUPT, SLOW = (f"{name}1.0-py312-inference" for name in _FRAMEWORKS)

MATRIX = """\
debian: {{{suite}: ["3.12"]}}
tracks: {{current: {{pythons: ["3.12"], accelerators: [cpu], supported_until: 2098-12-31}}}}
frameworks:
  minimal:
    title: {title}
    releases:
      - pins: [{pins}]
"""
FRAMEWORK = """\
  {name}:
    title: {name}
    package: six
    releases:
      - {{version: "1.0", package_version: "1.17", pins: [six==1.17.0]}}
"""
# In the template of all frameworks, for one of them.
SLEEP = '{% if variant.framework == "slow" %}RUN sleep 30\n{% endif -%}\n'


def small_project(root: Path) -> None:
    """Writes the repository, with all that is rendered, into a folder."""
    shutil.copytree(ROOT / "base", root / "base")
    for folder in (root / "base").glob("minimal-*"):
        if folder.name != PARENT:
            shutil.rmtree(folder)
    template = (ROOT / "frameworks" / "Dockerfile.j2").read_text()
    label = "{{ labels(variant) }}"
    assert label in template
    write_atomically(
        root / "frameworks" / "Dockerfile.j2", template.replace(label, f"{SLEEP}{label}")
    )
    parent = next(variant for variant in Project(ROOT).variants if variant.name == PARENT)
    pins = ", ".join(f'"{pin}"' for pin in parent.pins)
    matrix = MATRIX.format(suite=parent.suite, title=parent.title, pins=pins)
    frameworks = "".join(FRAMEWORK.format(name=name) for name in _FRAMEWORKS)
    (root / "matrix.yaml").write_text(matrix + frameworks)
    (root / "README.md").write_text("<!-- images -->\n<!-- /images -->\n")
    six = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"
    parent_lock = (ROOT / "base" / PARENT / "requirements.txt").read_text()
    for variant in Project(root).variants:
        if variant.parent is None:
            continue
        digest = six.replace("4", "5") if variant.name == CORRUPT else six
        lock = f"{parent_lock}six==1.17.0 \\\n    --hash=sha256:{digest}\n"
        write_atomically(root / variant.lock, lock_header(variant) + lock)
    assert run_in(root, "render").returncode == 0


def command_of(*arguments: str) -> list[str]:
    """The command line of a command of this repository."""
    return [sys.executable, "-m", "imagematrix", *arguments]


def environ_of(**more: str) -> dict[str, str]:
    """The project has no machinery of its own: that of this repository is found by its path."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run_in(root: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command that ran in the repository `root`."""
    return subprocess.run(
        command_of(*arguments),
        cwd=root,
        env=environ_of(**environ),
        capture_output=True,
        text=True,
        check=False,
    )
