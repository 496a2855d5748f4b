"""How pictures and a question become a `ModelInput`, and how token ids become text again."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from geospot.models.loading import Processing, chat_text
from geospot.pictures import image_size, prepare_picture

if TYPE_CHECKING:
    from tinker import types

KEPT_PICTURES = 2048  # rendered pictures that a renderer keeps: a step's, the next one's, the held-out sets'


class Renderer:
    """Renders conversations for one model through its own chat template.

    The template must write one image token per picture, as those of Qwen-VL and most others do.
    """

    def __init__(self, processing: Processing, *, max_pixels: int | None = None):
        self.processing = processing
        self.tokenizer = processing.tokenizer
        self.max_pixels = max_pixels
        self.stop_token_ids = processing.stop_token_ids
        # Sampling, every training pass and every evaluation share one chunk a picture.
        self._kept: OrderedDict[bytes, types.ImageChunk] = OrderedDict()  # by the picture's hash, oldest use first
        self._lock = threading.Lock()  # a loop renders ahead in a thread of its own

    def prompt(self, pictures: Sequence[bytes], question: str) -> "types.ModelInput":
        """The question about one or more encoded pictures, up to where the model's answer begins."""
        content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": question}]
        return self.conversation([{"role": "user", "content": content}], pictures)

    def conversation(self, messages: list[dict[str, Any]], pictures: Sequence[bytes]) -> "types.ModelInput":
        """Turns as the chat template takes them, up to where the model's answer begins.

        pictures: the encoded pictures of all turns in order, one for each {"type": "image"}. ValueError where the text
        writes a picture's token itself.
        """
        from tinker import types

        text = chat_text(self.tokenizer, messages, add_generation_prompt=True)
        marker = self.tokenizer.convert_ids_to_tokens(self.processing.image_token_id)
        pieces = text.split(marker)
        if len(pieces) != len(pictures) + 1:
            raise ValueError(
                f"the chat template of {self.processing.model_name} wrote {len(pieces) - 1} image tokens for "
                f"{len(pictures)} pictures"
            )
        chunks: list = []
        for i, piece in enumerate(pieces):
            if piece:
                tokens = self.tokenizer(piece, add_special_tokens=False).input_ids
                chunks.append(types.EncodedTextChunk(tokens=tokens))
            if i < len(pictures):
                chunks.append(self.image_chunk(pictures[i]))
        return types.ModelInput(chunks=chunks)

    def longest(self, places: Iterable[Sequence[bytes]], question: str) -> tuple[int, int]:
        """The most tokens of the prompts about the pictures of places, and of the pictures in one."""
        from tinker import types

        prompts = [self.prompt(pictures, question) for pictures in places]
        seen = [sum(c.length for c in p.chunks if isinstance(c, types.ImageChunk)) for p in prompts]
        return max((p.length for p in prompts), default=0), max(seen, default=0)

    def image_chunk(self, data: bytes) -> "types.ImageChunk":
        """A picture as a chunk that states how many tokens it takes; scaled down above `max_pixels`.

        The same picture gives the same object, as long as it is one of the last few thousand. Raises ValueError where
        it cannot be read to its end: it fails here, not in the middle of a batch.
        """
        key = hashlib.sha256(data).digest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        chunk = self._render(data)
        with self._lock:
            self._kept[key] = chunk
            if len(self._kept) > KEPT_PICTURES:
                self._kept.popitem(last=False)
        return chunk

    def _render(self, data: bytes) -> "types.ImageChunk":
        from tinker import types

        data, image_format = prepare_picture(data, self.max_pixels, verify=False)
        tokens = self.processing.count_image_tokens(*image_size(data))
        return types.ImageChunk(data=data, format=image_format, expected_tokens=tokens)

    def answer_tokens(self, text: str) -> list[int]:
        """The tokens of an answer with the end-of-turn token behind it."""
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, self.processing.end_of_turn]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens without special tokens."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True)
