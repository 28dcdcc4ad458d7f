"""The image's own pip for a virtual environment; ``python -m venv`` runs this as ``ensurepip``.

CPython's module of that name installs from a wheel of pip that it carries: a second pip, and an
older one than the image's, which is copied here instead. The server comes along: an environment
has none of the image's packages.
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
    theirs = sysconfig.get_paths(vars=base)
    if paths["purelib"] == theirs["purelib"]:
        return
    for name in ("pip", "pip-*.dist-info"):
        for path in glob.glob(os.path.join(theirs["purelib"], name)):
            target = os.path.join(paths["purelib"], os.path.basename(path))
            if not os.path.exists(target):
                shutil.copytree(path, target)
    for name in ("pip", "pip[0-9]*"):
        for path in glob.glob(os.path.join(theirs["scripts"], name)):
            _copy_script(path, os.path.join(paths["scripts"], os.path.basename(path)))
    _add_the_server(theirs["purelib"], paths["purelib"])


def _copy_script(path: str, target: str) -> None:
    with open(path, encoding="utf-8") as file:
        _, _, code = file.read().partition("\n")
    with open(target, "w", encoding="utf-8") as file:
        file.write("#!{}\n{}".format(sys.executable, code))
    os.chmod(target, 0o755)


def _add_the_server(theirs: str, ours: str) -> None:
    """The server, and the parser of HTTP that it needs, come last on the path here too."""
    name = "inference-server.pth"
    with open(os.path.join(theirs, name), encoding="utf-8") as file:
        lines = file.read()
    parser = os.path.join(os.path.dirname(os.path.dirname(theirs)), "inference-server")
    with open(os.path.join(ours, name), "w", encoding="utf-8") as file:
        file.write("{}{}\n".format(lines, parser))


def version() -> str:
    """The version of the image's pip."""
    import pip

    return str(pip.__version__)


if __name__ == "__main__":
    bootstrap()
