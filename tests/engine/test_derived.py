"""Images based on the minimal image: what a user's Dockerfile may rely on."""

import subprocess

from imagematrix.host.engine import Engine
from imagematrix.plan.bake import image_tag
from tests.example_images import example

PARENT = example().name


def test_pip_removes_all_of_a_trimmed_distribution(engine: Engine) -> None:
    """As it does first when it upgrades one: files of RECORD that are gone are no obstacle."""
    site = "/usr/local/lib/python3.12/site-packages"
    dockerfile = (
        f"FROM {image_tag(PARENT)}\nUSER root\n"
        f"RUN grep -q '[.]pyi,' {site}/httptools-*.dist-info/RECORD\n"
        f"RUN test ! -e {site}/httptools/parser/parser.pyi\n"
        "RUN pip uninstall --yes httptools && pip check\n"
        f"RUN test ! -e {site}/httptools\n"
    )
    built = subprocess.run(
        ["docker", "build", "--progress=plain", "-"],
        input=dockerfile,
        env=engine.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-2000:]
