"""What package indexes answer, and which wheels lie on this host."""

from pathlib import Path
from urllib.parse import urlsplit

from imagematrix.hostconfig import HostConfig


def wheel_files(host: HostConfig) -> list[Path]:
    """The wheels in the folders that this host's configuration of pip names."""
    found = (path for folder in host.wheel_folders for path in sorted(folder.glob("*.whl")))
    return [path for path in found if path.is_file()]


def why_unreachable(url: str, ca_bundle: Path | None, timeout: float = 10) -> str:
    """Why `url` cannot be read, as the end of a sentence that begins with it; nothing if it can."""
    # Not for a plan of fresh images, which asks no index.
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, method="HEAD")
    try:
        context = ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
        with urllib.request.urlopen(request, timeout=timeout, context=context):
            return ""
    except urllib.error.HTTPError as error:
        return f"answers {error.code} {error.reason}"
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        return f"cannot be reached from here ({urlsplit(url).hostname}: {reason})"
