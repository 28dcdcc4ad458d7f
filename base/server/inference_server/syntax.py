"""Which characters may names in HTTP have?"""

from __future__ import annotations

import re

# RFC 9110, 5.6.2: of methods and of headers.
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 3986, 3.2.2, and a port.
HOST = re.compile(r"(\[[0-9A-Fa-f:.%A-Za-z~_-]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?\Z")
