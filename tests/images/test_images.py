"""Every check of every selected image, in its running container."""

from tests.images.checks import Check
from tests.images.running import RunningImage


def test_image(image: RunningImage, check: Check) -> None:
    """The image passes the check."""
    check(image)
