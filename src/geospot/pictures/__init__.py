"""Everybody's way to a picture: one reader, one scaler, one reader of positions, for training, evaluation and guesses.

Whatever shows a picture to a model calls `prepare_picture`, so that a photo gives the same bytes everywhere.
"""

from geospot.errors import BadSample
from geospot.pictures.bare import bare
from geospot.pictures.exif import Tags, carries_position, position_in_xmp, position_of, read_position
from geospot.pictures.reading import (
    HEIF_SUFFIXES,
    MAX_ASPECT,
    MAX_DECODED_PIXELS,
    PICTURE_SUFFIXES,
    decode_image,
    image_size,
    is_heif,
    is_picture,
    open_file,
    open_image,
    read_file,
    read_header,
    register_heif,
)
from geospot.pictures.scaling import fitted_size, prepare_picture, thumbnail

__all__ = [
    "HEIF_SUFFIXES",
    "MAX_ASPECT",
    "MAX_DECODED_PIXELS",
    "PICTURE_SUFFIXES",
    "BadSample",
    "Tags",
    "bare",
    "carries_position",
    "decode_image",
    "fitted_size",
    "image_size",
    "is_heif",
    "is_picture",
    "open_file",
    "open_image",
    "position_in_xmp",
    "position_of",
    "prepare_picture",
    "read_file",
    "read_header",
    "read_position",
    "register_heif",
    "thumbnail",
]
