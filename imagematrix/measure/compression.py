"""How layers are compressed when they are published. The same layer always gives the same bytes, so
its digest is known to registries and engines that have it."""

import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import zstandard

# Close to BuildKit's best zstd in size: images are pulled more often than they are pushed.
ZSTD_LEVEL = 9
# Consumers with an engine that has no zstd need gzip. Its highest level takes three times as long,
# for one percent.
_GZIP_LEVEL = 6
_CHUNK = 1 << 20


class Compression(StrEnum):
    """How a layer is compressed."""

    ZSTD = "zstd"
    GZIP = "gzip"

    @property
    def media_type(self) -> str:
        """That of a layer: https://github.com/opencontainers/image-spec/blob/main/layer.md"""
        return f"application/vnd.oci.image.layer.v1.tar+{self}"


def compress(content: Any, compression: Compression, write: Callable[[bytes], object]) -> int:
    """Hands the compressed bytes of a file, that only has `read(size)`, to `write`. Returns the
    number of its uncompressed bytes."""
    compressor = _compressor(compression)
    uncompressed = 0
    while chunk := content.read(_CHUNK):
        uncompressed += len(chunk)
        write(compressor.compress(chunk))
    write(compressor.flush())
    return uncompressed


def _compressor(compression: Compression) -> Any:
    if compression is Compression.GZIP:
        # The header of this form of zlib has no name and no time.
        return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    # The output depends on whether there are threads, not on their number.
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=-1).compressobj()
