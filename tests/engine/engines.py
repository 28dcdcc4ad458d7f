"""An engine of its own for a while: nobody's images and caches are touched."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagematrix.engine import Engine, EngineFiles, find_engine, start_engine, stop_engine


@contextmanager
def fresh_engine(
    bridge: str, gateway: str, registry_mirrors: Sequence[str] = (), parent: Path | None = None
) -> Iterator[Engine]:
    """An engine without images and caches, with a network bridge of its own; gone at the end.

    It needs root, an installed dockerd and `ip`. `gateway` is the address of this host on the
    bridge; what the engine keeps is in a folder below `parent`.
    """
    subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", f"{gateway}/24", "dev", bridge], check=True)
    subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
    folder = Path(tempfile.mkdtemp(prefix="engine-", dir=parent))
    files = EngineFiles(folder / "docker.sock", folder / "data", folder / "run", folder / "state")
    try:
        start_engine(files, registry_mirrors=registry_mirrors, bridge=bridge)
        found = find_engine(files.host)
        assert found is not None, "the engine does not answer"
        yield found
    finally:
        stop_engine(files)
        subprocess.run(["ip", "link", "delete", bridge], check=False)
        shutil.rmtree(folder, ignore_errors=True)
