"""``AMLResponse`` under the name that scripts use."""

from inference_server.raw import AMLResponse

__all__ = ["AMLResponse"]
