"""Names of licences, as packages write them, and what SPDX calls them."""

import re
from functools import cache

from license_expression import ExpressionError
from spdx_tools.common.spdx_licensing import spdx_licensing

# Names that mean one licence, in lower case: the short names of Debian's copyright files, and what
# the metadata of Python packages have. Others ("BSD") mean several, and stay as they are.
# https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-short-name
_KNOWN = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "expat": "MIT",
    "isc license (iscl)": "ISC",
    "lgplv3": "LGPL-3.0-only",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the mit license": "MIT",
}
# `GPL-2+` is `GPL-2.0-or-later`.
_GNU = re.compile(r"(A?GPL|LGPL|GFDL)-(\d)(?:\.(\d))?(\+?)")


@cache
def spdx_expression(name: str) -> str | None:
    """A licence as an expression of SPDX, None for a name that SPDX does not know.

    https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/
    """
    # Debian writes expressions in small letters; a comma changes what belongs together.
    parts = re.split(r" (or|and) ", name)
    if len(parts) > 1 and "," not in name:
        words = [word.upper() if at % 2 else spdx_expression(word) for at, word in enumerate(parts)]
        return None if None in words else " ".join(map(str, words))
    name = _KNOWN.get(name.lower(), name)
    if match := _GNU.fullmatch(name):
        until = "or-later" if match[4] else "only"
        name = f"{match[1]}-{match[2]}.{match[3] or 0}-{until}"
    try:
        return str(spdx_licensing.parse(name, validate=True, strict=True))
    except ExpressionError:
        return None
