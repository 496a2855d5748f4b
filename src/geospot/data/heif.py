"""HEIC and HEIF, which phones write: Pillow reads them once the extra `heic` (pillow-heif) is there."""

from functools import lru_cache

HEIF_SUFFIXES = (".heic", ".heif")
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_heif(data: bytes) -> bool:
    """Whether an encoded picture begins as HEIC or HEIF (ISO/IEC 23008-12) does."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


@lru_cache(maxsize=1)
def register_heif() -> bool:
    """Teach Pillow HEIC in this process; False where pillow-heif is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
