"""`engine`: show, start or stop the engine that was set up here."""

import argparse

from imagematrix.host.buildx import require_buildx
from imagematrix.host.engine import find_engine
from imagematrix.host.setup import EngineFiles, ensure_engine, started_pid, stop_engine
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("action", nargs="?", choices=["status", "start", "stop"], default="status")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    del project
    files = EngineFiles()
    if options.action == "start":
        ensure_engine(files)
        require_buildx()
    if options.action == "stop":
        stopped = stop_engine(files)
        print("stopped" if stopped else "no engine that was started here runs; nothing was stopped")
        return 0
    engine = find_engine()
    if engine is None:
        print("no Docker engine answers; `nox -s build` sets one up where it can")
        return 1
    pid = started_pid(files) if engine.endpoint.socket == files.socket else None
    whose = f"started here, process {pid}, log {files.log}" if pid else "not started here"
    print(f"Docker {engine.version} at {engine.endpoint} ({whose})")
    return 0
