"""Loaded into every Python of the image: the import names for scripts, and how the server starts.

``inference-server.pth`` loads this file when an interpreter starts. So it imports only what the
interpreter has loaded already, and does nothing that takes time.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import List, Optional, Sequence

ROOT = __file__.rpartition("/")[0]
# The name of the server in workers, which no module of an app has. An app may have its own package
# `inference_server`.
ALIAS = "_inference_server"
PROMISED = ("azureml", "azureml_inference_server_http")


class PromisedNames:
    """Finds the import paths that scripts use, where no installed package has them.

    It comes last, so installed packages win. It also finds ``azureml.contrib.services`` below an
    installed ``azureml`` that does not extend its path.
    """

    @staticmethod
    def find_spec(
        name: str, path: "Optional[Sequence[str]]" = None, target: object = None
    ) -> "Optional[ModuleSpec]":
        """The module in this folder, whatever the path of its parent is."""
        parents = name.split(".")[:-1]
        if (parents or [name])[0] in PROMISED:
            from importlib.machinery import PathFinder

            return PathFinder.find_spec(name, ["/".join([ROOT, *parents])])
        return _spec(name) if name == ALIAS else None


class OwnNames:
    """Finds ``inference_server`` for ``python -m`` before the working directory is searched."""

    @staticmethod
    def find_spec(
        name: str, path: "Optional[Sequence[str]]" = None, target: object = None
    ) -> "Optional[ModuleSpec]":
        """The package; other names are left to the next finders."""
        return _spec(name) if name == "inference_server" else None


def _spec(name: str) -> "Optional[ModuleSpec]":
    from importlib.util import spec_from_file_location

    folder = ROOT + "/inference_server"
    return spec_from_file_location(
        name, folder + "/__init__.py", submodule_search_locations=[folder]
    )


def _command_line() -> "List[str]":
    if hasattr(sys, "orig_argv"):
        return sys.orig_argv
    # Before Python 3.10.
    try:
        with open("/proc/self/cmdline", "rb") as file:
            return file.read().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def own_path() -> "List[str]":
    """The module path for the server: the installation first, never the working directory."""
    import os

    # In a virtual environment, the standard library is not below its prefix.
    installed = (os.path.dirname(os.__file__), sys.prefix)
    places = [place for place in sys.path if place]
    return sorted(places, key=lambda place: not place.startswith(installed))


def run_worker() -> None:
    """Run a worker process; ``workers.supervisor`` starts it."""
    # The path that the user has set, without the working directory, which `-c` puts first.
    # `script.load` appends to it.
    theirs = [place for place in sys.path if place not in ("", ROOT)]
    sys.path[:] = own_path()
    # PromisedNames finds it.
    from _inference_server.script import worker  # type: ignore[import-not-found]

    sys.path[:] = theirs
    worker.main()


sys.meta_path.append(PromisedNames)
_words = _command_line()
if "-m" in _words:
    _module = ([*_words, ""])[_words.index("-m") + 1]
    if _module.partition(".")[0] == "inference_server":
        # `-m` needs it. Imported now, while only the installation is on the path.
        import runpy  # noqa: F401 - for its place in sys.modules

        sys.meta_path.insert(0, OwnNames)
