"""Install the image's pip into a virtual environment; ``python -m venv`` runs it as ``ensurepip``.

CPython's ``ensurepip`` brings a wheel of pip, which is older than the image's, so the image's pip
is copied instead. The server is added as well: an environment has no packages of the image.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
import sysconfig
from typing import Any


def bootstrap(**_options: Any) -> None:
    """Put pip into the environment of this interpreter, if it is one and has none."""
    paths = sysconfig.get_paths()
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    image = sysconfig.get_paths(vars=base)
    if paths["purelib"] == image["purelib"]:
        return
    for name in ("pip", "pip-*.dist-info"):
        for path in glob.glob(os.path.join(image["purelib"], name)):
            target = os.path.join(paths["purelib"], os.path.basename(path))
            if not os.path.exists(target):
                shutil.copytree(path, target)
    for name in ("pip", "pip[0-9]*"):
        for path in glob.glob(os.path.join(image["scripts"], name)):
            _copy_script(path, os.path.join(paths["scripts"], os.path.basename(path)))
    _add_the_server(image["purelib"], paths["purelib"])


def _copy_script(path: str, target: str) -> None:
    with open(path, encoding="utf-8") as file:
        _, _, code = file.read().partition("\n")
    with open(target, "w", encoding="utf-8") as file:
        file.write("#!{}\n{}".format(sys.executable, code))
    os.chmod(target, 0o755)


def _add_the_server(image: str, environment: str) -> None:
    """Put the server, and the HTTP parser that it needs, last on the path of the environment."""
    name = "inference-server.pth"
    with open(os.path.join(image, name), encoding="utf-8") as file:
        lines = file.read()
    parser = os.path.join(os.path.dirname(os.path.dirname(image)), "inference-server")
    with open(os.path.join(environment, name), "w", encoding="utf-8") as file:
        file.write("{}{}\n".format(lines, parser))


def version() -> str:
    """The version of the image's pip."""
    import pip

    return str(pip.__version__)


if __name__ == "__main__":
    bootstrap()
