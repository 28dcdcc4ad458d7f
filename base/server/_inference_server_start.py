"""What every Python of the image knows of the server: the promised names, and how ours start.

``inference-server.pth`` loads this file into each interpreter as it starts, so it imports nothing
that is not there already and does nothing that takes time.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import List, Optional, Sequence

ROOT = __file__.rpartition("/")[0]
# The server under a name that no module of an app has. A worker knows it by this one alone, so
# that an app may have a package `inference_server` of its own.
ALIAS = "_inference_server"
PROMISED = ("azureml", "azureml_inference_server_http")


class PromisedNames:
    """Finds the import paths that scripts use where nothing else has them.

    It comes last: what is really installed wins. But a package ``azureml`` that does not extend
    its path cannot hide ``azureml.contrib.services``.
    """

    @staticmethod
    def find_spec(
        name: str, path: "Optional[Sequence[str]]" = None, target: object = None
    ) -> "Optional[ModuleSpec]":
        """The module below our folder, whatever the path of its parent is."""
        parents = name.split(".")[:-1]
        if (parents or [name])[0] in PROMISED:
            from importlib.machinery import PathFinder

            return PathFinder.find_spec(name, ["/".join([ROOT, *parents])])
        return _spec(name) if name == ALIAS else None


class OwnNames:
    """Finds what ``python -m inference_server`` runs before the working directory is looked at."""

    @staticmethod
    def find_spec(
        name: str, path: "Optional[Sequence[str]]" = None, target: object = None
    ) -> "Optional[ModuleSpec]":
        """The package, and nothing else."""
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
    """The module path of what is ours: the installation first, the working directory never."""
    import os

    # In a virtual environment, the standard library is not below its prefix.
    installed = (os.path.dirname(os.__file__), sys.prefix)
    places = [place for place in sys.path if place]
    return sorted(places, key=lambda place: not place.startswith(installed))


def run_worker() -> None:
    """Run a worker; see ``inference_server.supervisor``."""
    # What a user put on the path stays as it is, without the working directory, which `-c` puts
    # first: see `script.load` for what comes last.
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
        # What `-m` itself needs, as long as only places of the installation are on the path.
        import runpy  # noqa: F401 - it is to be there

        sys.meta_path.insert(0, OwnNames)
