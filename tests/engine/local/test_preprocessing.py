"""A picture's numbers before the vision tower are those of transformers' own image processor, for every family."""

import numpy as np
import pytest
import torch
import transformers
from made import jpeg
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from geospot.engine.local import preprocessing
from geospot.engine.local.preprocessing import Preprocessing
from geospot.errors import BadSample
from geospot.pictures import decode_image

SIDE = {"height": 56, "width": 56}
PROCESSORS = {
    "qwen2_vl": (transformers.Qwen2VLImageProcessorPil(), "_patches"),
    "qwen2_vl, one picture in time": (
        transformers.Qwen2VLImageProcessorPil(
            patch_size=16, merge_size=1, temporal_patch_size=1, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        "_patches",
    ),
    "glm4v": (transformers.Glm4vImageProcessorPil(), "_whole"),
    "clip": (CLIPImageProcessorPil(size=SIDE, crop_size=SIDE), "_planes"),
    "siglip": (transformers.SiglipImageProcessorPil(size=SIDE), "_planes"),
    "siglip, not normalised": (transformers.SiglipImageProcessorPil(size=SIDE, do_normalize=False), "_planes"),
    "gemma3": (transformers.Gemma3ImageProcessorPil(size=SIDE), "_planes"),
    "idefics3": (
        transformers.Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56}),
        "_whole",
    ),
    # Pictures of different shapes have different numbers of tiles, which the processor pads.
    "llava_next": (transformers.LlavaNextImageProcessorPil(size={"shortest_edge": 56}, crop_size=SIDE), "_planes"),
    "pixtral": (transformers.PixtralImageProcessorPil(), "_whole"),
}


@pytest.mark.parametrize("family", PROCESSORS)
def test_a_picture_has_the_processors_numbers(family):
    processor, way = PROCESSORS[family]
    pictures = [jpeg(1, 112, 84), jpeg(2, 61, 140), jpeg(3, 224, 224)]
    want = processor(
        images=[decode_image(data) for data in pictures], input_data_format="channels_last", return_tensors="pt"
    )
    takes = {*want.keys()} - {"num_crops"}
    prepare = Preprocessing(processor, takes)
    assert prepare.way.__name__ == way
    got = prepare(pictures, "cpu", torch.float32)
    assert got.keys() == takes
    for key in takes:
        torch.testing.assert_close(got[key], torch.as_tensor(want[key]), rtol=0, atol=1e-6)
    one = prepare(pictures[:1], "cpu", torch.bfloat16)
    assert one["pixel_values"].dtype == torch.bfloat16


def test_a_batch_that_the_processor_pads_is_left_to_it(monkeypatch):
    """Equal shapes in the probe say nothing of pictures that come out in different ones."""
    processor = transformers.SiglipImageProcessorPil(do_resize=False)
    monkeypatch.setattr(preprocessing, "_PROBES", ((56, 56), (56, 56)))
    prepare = Preprocessing(processor, {"pixel_values"})
    assert prepare.way.__name__ == "_planes"
    images = [np.zeros((56, 56, 3), np.uint8), np.zeros((70, 56, 3), np.uint8)]
    assert prepare.way(images, torch.device("cpu")) is None


def test_a_broken_picture_among_others_is_refused():
    prepare = Preprocessing(PROCESSORS["qwen2_vl"][0], {"pixel_values", "image_grid_thw"})
    with pytest.raises(BadSample):
        prepare([jpeg(1), jpeg(2)[:-300], jpeg(3)], "cpu", torch.float32)
