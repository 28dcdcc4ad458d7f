"""The bake file, for people who use bake directly."""

import json
import os
import subprocess
import sys

from imagematrix.host.engine import Engine
from imagematrix.plan.bake import target_name
from tests.engine.conftest import ROOT
from tests.example_images import example, smallest_child


def test_printed_bake_file_is_one_that_bake_reads(engine: Engine) -> None:
    """Standard output is only the bake file, with all images and without secrets."""
    names = (example().name, smallest_child().name)
    command = [sys.executable, "-m", "imagematrix", "build", *names, "--print"]
    environ = {**engine.environ(), "PIP_INDEX_URL": "https://canary.example/simple"}
    printed = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    ).stdout
    definition = json.loads(printed)
    targets = {target_name(name) for name in names}
    targets |= {"inference-tools", f"system-{example().suite}"}
    assert definition["target"].keys() == targets
    assert "canary" not in printed
    assert not any(target["secret"] for target in definition["target"].values())
    bake = ["docker", "buildx", "bake", "--file", "-", "--print"]
    read = subprocess.run(
        bake,
        cwd=ROOT,
        env={**os.environ, **engine.environ()},
        input=printed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout)["target"].keys() == targets
