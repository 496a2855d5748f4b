"""Models that geospot is made for, by their published shapes: how many numbers each holds, without loading it."""

from dataclasses import dataclass
from typing import Literal

Family = Literal["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
_MERGED = 4  # patches that become one picture token
_PLACES = 2304  # learned positions of Qwen3-VL's tower
_DEEP = 3  # of its layers whose features go in behind the decoder's first layers


@dataclass(frozen=True)
class KnownModel:
    """Sizes of a text decoder and a vision tower, as in config.json."""

    name: str
    family: Family
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool  # the output layer is the input embedding
    vision_hidden: int
    vision_layers: int
    vision_inner: int
    patch: int = 14  # pixels of its side; a patch has two frames of three colours
    head_dim: int = 128

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """(in, out) of a decoder layer's matrices by name."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, q), "k_proj": (self.hidden, kv), "v_proj": (self.hidden, kv),
            "o_proj": (q, self.hidden), "gate_proj": (self.hidden, self.inner), "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }  # fmt: skip

    @property
    def decoder(self) -> int:
        """Numbers in the decoder's layers."""
        matrices = sum(a * b for a, b in self.widths.values())
        norms, biases = 2 * self.head_dim, (self.heads + 2 * self.kv_heads) * self.head_dim
        beside = norms if self.family == "qwen3_vl" else biases
        return self.layers * (matrices + beside + 2 * self.hidden)

    @property
    def vision(self) -> int:
        """Numbers in the vision tower and the projector behind it."""
        h, inner = self.vision_hidden, self.vision_inner
        attention = 4 * h * h + 4 * h
        if self.family == "qwen2_5_vl":
            layer, norm = attention + 3 * h * inner + 2 * inner + h + 2 * h, h
        else:
            layer, norm = attention + 2 * h * inner + inner + h + 4 * h, 2 * h
        wide = _MERGED * h
        projector = wide * wide + wide + wide * self.hidden + self.hidden
        start = 2 * 3 * self.patch**2 * h
        total = start + self.vision_layers * layer + norm + projector
        if self.family == "qwen3_vl":
            total += h + _PLACES * h + _DEEP * (projector + 2 * wide)
        return total

    @property
    def parameters(self) -> int:
        """All of them."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.decoder + self.hidden + self.vision

    def adapter(self, rank: int) -> int:
        """Numbers of an adapter on attention and MLP of every layer."""
        return self.layers * sum(rank * (a + b) for a, b in self.widths.values())


def _qwen2(name: str, hidden: int, layers: int, heads: int, kv: int, inner: int, vision_inner: int) -> KnownModel:
    family: Family = "qwen2_vl" if name.startswith("Qwen2-") else "qwen2_5_vl"
    small = hidden <= 2048
    return KnownModel(
        f"Qwen/{name}", family, hidden, layers, heads, kv, inner, 151_936 if small else 152_064, small, 1280, 32,
        vision_inner,
    )  # fmt: skip


def _qwen3(name: str, hidden: int, layers: int, heads: int, inner: int, vision: tuple[int, int, int]) -> KnownModel:
    return KnownModel(f"Qwen/{name}", "qwen3_vl", hidden, layers, heads, 8, inner, 151_936, hidden < 4096, *vision, 16)


# The smallest first.
KNOWN = (
    KnownModel("geospot/tiny", "qwen2_5_vl", 192, 3, 6, 3, 576, 1_682, True, 160, 5, 480, patch=28, head_dim=32),
    _qwen3("Qwen3-VL-2B-Instruct", 2048, 28, 16, 6_144, (1024, 24, 4096)),
    _qwen2("Qwen2-VL-2B-Instruct", 1536, 28, 12, 2, 8_960, 5120),
    _qwen2("Qwen2.5-VL-3B-Instruct", 2048, 36, 16, 2, 11_008, 3420),
    _qwen3("Qwen3-VL-4B-Instruct", 2560, 36, 32, 9_728, (1024, 24, 4096)),
    _qwen2("Qwen2.5-VL-7B-Instruct", 3584, 28, 28, 4, 18_944, 3420),
    _qwen3("Qwen3-VL-8B-Instruct", 4096, 36, 32, 12_288, (1152, 27, 4304)),
    _qwen2("Qwen2.5-VL-32B-Instruct", 5120, 64, 40, 8, 27_648, 3456),
    _qwen2("Qwen2.5-VL-72B-Instruct", 8192, 80, 64, 8, 29_568, 3456),
)
