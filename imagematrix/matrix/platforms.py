"""What is the same of every image: for which platform it is, of when, and under which licences."""

from datetime import UTC, datetime

# Whatever the engine itself is: https://docs.docker.com/build/building/multi-platform/
PLATFORM = "linux/amd64"
# The one time that images bear, 2020-01-01: with that of the clock, no two builds would be the
# same. BuildKit takes it as SOURCE_DATE_EPOCH for the configuration and the history; the times of
# files are set by the programs in base/tools.
# https://reproducible-builds.org/docs/source-date-epoch/
EPOCH = 1577836800
# The same as a label has it (RFC 3339).
CREATED = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
# An SPDX expression. The files of this repository are under the first licence. Debian, CPython, the
# packages and NVIDIA's libraries have their own, which the SBOM of each image lists.
LICENCES = "MIT AND LicenseRef-see-SBOM"
