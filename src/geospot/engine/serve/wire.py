"""Between the protocol's messages and the SDK's types: what comes in is checked, what goes out is packed."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import orjson
import zstandard
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ValidationError
from tinker import types
from tinker.proto import tinker_public_pb2 as pb

M = TypeVar("M", bound=BaseModel)
Topk = tuple[np.ndarray, np.ndarray]  # token ids and log-probabilities, (N, k)

_MOST_VALUES, _MOST_IN_ALL = 1 << 24, 1 << 26  # of one tensor, and of a request's, written out
MAX_BODY_BYTES = 256 << 20  # of a request with data, after decompression
MAX_WORDS_BYTES = 256 << 10  # of one that has none: names, metadata
_DTYPES: dict[int, tuple[Literal["float32", "int64"], type]] = {
    pb.DTYPE_FLOAT32: ("float32", np.float32),
    pb.DTYPE_INT64: ("int64", np.int64),
}
_STOP_REASONS = {"stop": pb.STOP_REASON_STOP, "length": pb.STOP_REASON_LENGTH}


class Refused(Exception):
    """A request that cannot be served; `status` is the HTTP status, the text says why."""

    def __init__(
        self, status: int, detail: str, *, retry_after_s: int | None = None, headers: dict[str, str] | None = None
    ):
        super().__init__(detail)
        self.status, self.headers = status, dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)


def unknown(what: str, why: str = "", *, status: int = 404) -> Refused:
    """The refusal of a name that nothing here has; why: what may have become of it."""
    return Refused(status, f"{what} is not known here{f': {why}' if why else ''}")


def too_large(most: int) -> Refused:
    """The refusal of a body of more than `most` bytes; what still comes of it is not read."""
    size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
    return Refused(413, f"the body is larger than {size}", headers={"Connection": "close"})


def decompress(body: bytes, encoding: str, most: int = MAX_BODY_BYTES) -> bytes:
    """The body of a request whose Content-Encoding is `encoding` ("" for none), of `most` bytes at most."""
    if encoding in ("", "identity"):
        return body
    if encoding != "zstd":
        raise Refused(415, f"Content-Encoding {encoding!r}: this server reads zstd or none")
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(body)
        out = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise Refused(400, f"the body is not zstd: {error}") from None
    if len(out) > most:
        raise too_large(most)
    return out


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def read_text(body: bytes, name: str) -> str:
    """The string under a key of a JSON object."""
    value = read_json(body).get(name)
    if not isinstance(value, str):
        raise Refused(422, f"{name}={value!r}: must be a string")
    return value


def read_model(model_class: type[M], body: bytes) -> M:
    """A request as one of the SDK's own request types, which refuse unknown keys."""
    try:
        return model_class.model_validate(read_json(body))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(422, f"{model_class.__name__}: {where}: {first['msg']}") from None


def read_forward_backward(body: bytes) -> tuple[pb.ForwardBackwardRequest, list[types.Datum], dict]:
    """The message, its data as the SDK's types, and the loss's configuration."""
    message = pb.ForwardBackwardRequest()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise Refused(400, f"the body is not a ForwardBackwardRequest: {error}") from None
    config = {key: value.number for key, value in message.loss_fn_config_v2.items() if value.HasField("number")}
    if words := [key for key, value in message.loss_fn_config_v2.items() if not value.HasField("number")]:
        raise Refused(422, f"loss_fn_config key {words[0]!r}: no loss here takes text")
    written = sum(_size(tensor, name) for datum in message.data for name, tensor in datum.loss_fn_inputs.items())
    if written > _MOST_IN_ALL:
        raise Refused(422, f"loss_fn_inputs: {written} values, written out; at most {_MOST_IN_ALL} in a request")
    data = [
        types.Datum(
            model_input=types.ModelInput(chunks=[_chunk(chunk) for chunk in datum.model_input]),
            loss_fn_inputs={name: _tensor(tensor, name) for name, tensor in datum.loss_fn_inputs.items()},
        )
        for datum in message.data
    ]
    return message, data, config or dict(message.loss_fn_config)


def _chunk(chunk: pb.Chunk) -> types.EncodedTextChunk | types.ImageChunk:
    kind = chunk.WhichOneof("chunk")
    if kind == "encoded_text":
        return types.EncodedTextChunk(tokens=np.frombuffer(chunk.encoded_text.tokens, np.int32).tolist())
    if kind == "image":
        image = chunk.image
        expected = image.expected_tokens if image.HasField("expected_tokens") else None
        if image.format not in ("jpeg", "png"):
            raise Refused(422, f"image format {image.format!r}: must be jpeg or png")
        return types.ImageChunk(data=image.data, format=image.format, expected_tokens=expected)
    raise Refused(422, f"a chunk of kind {kind}: only text and images are served")


def _size(tensor: pb.Tensor, name: str) -> int:
    """How many values a tensor has by its shape, which a sparse one need not bring; Refused for too many."""
    if min(tensor.shape, default=0) < 0 or (size := math.prod(tensor.shape)) > _MOST_VALUES:
        raise Refused(422, f"{name}: shape {list(tensor.shape)}; at most {_MOST_VALUES} values, none of them negative")
    return size


def _tensor(tensor: pb.Tensor, name: str) -> types.TensorData:
    if tensor.dtype not in _DTYPES:
        raise Refused(422, f"{name}: dtype {tensor.dtype}; float32 and int64 are read")
    dtype, numpy_dtype = _DTYPES[tensor.dtype]
    shape = list(tensor.shape) or None
    try:
        if tensor.HasField("sparse_csr"):
            csr = tensor.sparse_csr
            values = np.frombuffer(csr.values, numpy_dtype).copy()
            crow, column = np.frombuffer(csr.crow_indices, np.int64), np.frombuffer(csr.col_indices, np.int64)
            _places(shape or [], crow, column, len(values), name)
            return types.TensorData(
                data=values,
                dtype=dtype,
                shape=shape,
                sparse_crow_indices=crow.tolist(),
                sparse_col_indices=column.tolist(),
            )
        return types.TensorData(data=np.frombuffer(tensor.dense, numpy_dtype).copy(), dtype=dtype, shape=shape)
    except ValueError as error:
        raise Refused(422, f"{name}: {error}") from None


def pack_forward_backward(output: types.ForwardBackwardOutput) -> bytes:
    """A `ForwardBackwardOutput` as the message the SDK reads."""
    message = pb.ForwardBackwardOutput(loss_fn_output_type=output.loss_fn_output_type, metrics=output.metrics)
    outputs = output.loss_fn_outputs
    arrays = [{name: np.asarray(t.to_numpy(), dtype=np.float32) for name, t in datum.items()} for datum in outputs]
    # A record for each run of equal trailing shapes: data with (N,) and (N, K) targets may come together.
    for _, group in itertools.groupby(arrays, key=lambda datum: {name: a.shape[1:] for name, a in datum.items()}):
        data = list(group)
        record = message.loss_fn_outputs.add()
        record.num_datums = len(data)
        for name, first in data[0].items():
            tensor = record.fields[name]
            tensor.dtype = pb.DTYPE_FLOAT32
            tensor.data = b"".join(datum[name].tobytes() for datum in data)
            tensor.offsets = np.cumsum([0, *(datum[name].nbytes for datum in data)], dtype=np.int64).tobytes()
            tensor.trailing_shape.extend(first.shape[1:])
    return message.SerializeToString()


@dataclass
class Beside:
    """What a sample request may ask for beside its sequences, None where it did not."""

    prompt: Sequence[float | None] | None = None  # log-probabilities of the prompt's tokens
    topk_prompt: Topk | None = None
    topk_sample: Sequence[Topk] | None = None
    targets: np.ndarray | None = None  # of `target_prompt_logprobs`, dense
    asked: types.TensorData | None = None  # what named those


def pack_sample(sequences: Sequence[types.SampledSequence], beside: Beside) -> bytes:
    """Sequences, and what was asked for beside them, as the message the SDK reads."""
    message = pb.SampleResponse()
    for i, sequence in enumerate(sequences):
        made = message.sequences.add(
            stop_reason=_STOP_REASONS[sequence.stop_reason],
            tokens=np.asarray(sequence.tokens_np, dtype=np.int32).tobytes(),
            logprobs=np.asarray(sequence.logprobs_np, dtype=np.float32).tobytes(),
        )
        if beside.topk_sample is not None:
            made.topk_sampled_logprobs.CopyFrom(_topk(beside.topk_sample[i]))
    if beside.prompt is not None:
        known = [np.nan if value is None else value for value in beside.prompt]
        message.prompt_logprobs = np.array(known, dtype=np.float32).tobytes()
    if beside.topk_prompt is not None:
        message.topk_prompt_logprobs.CopyFrom(_topk(beside.topk_prompt))
    if beside.targets is not None and beside.asked is not None:
        message.target_prompt_logprobs.CopyFrom(_like(beside.targets, beside.asked))
    return message.SerializeToString()


def _topk(found: Topk) -> pb.TopkLogprobs:
    tokens, logprobs = found
    length, k = tokens.shape
    rows = tokens.astype(np.int32).tobytes(), logprobs.astype(np.float32).tobytes()
    return pb.TopkLogprobs(token_ids=rows[0], logprobs=rows[1], k=k, length=length)


def _like(values: np.ndarray, asked: types.TensorData) -> pb.Tensor:
    """float32 values in the layout of what named them, dense or sparse."""
    message = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=values.shape)
    crow, column = asked.sparse_crow_indices, asked.sparse_col_indices
    if crow is None or column is None:
        message.dense = values.astype(np.float32).tobytes()
        return message
    row = np.repeat(np.arange(len(crow) - 1), np.diff(crow))
    message.sparse_csr.values = values[row, np.asarray(column, dtype=np.int64)].astype(np.float32).tobytes()
    message.sparse_csr.crow_indices = np.asarray(crow, dtype=np.int64).tobytes()
    message.sparse_csr.col_indices = np.asarray(column, dtype=np.int64).tobytes()
    return message


def _places(
    shape: Sequence[int], crow: np.ndarray, column: np.ndarray, n_values: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each value of a sparse tensor (CSR); Refused for indices that do not fit its shape."""
    counts = np.diff(crow)
    if (
        len(shape) != 2
        or len(crow) != shape[0] + 1
        or crow[0] != 0
        or (counts < 0).any()
        or not crow[-1] == len(column) == n_values
    ):
        raise Refused(422, f"{name}: its sparse indices do not fit its shape")
    if ((column < 0) | (column >= shape[1])).any():
        raise Refused(422, f"{name}: a column index is outside its shape")
    return np.repeat(np.arange(shape[0]), counts), column


def dense_targets(asked: types.TensorData) -> np.ndarray:
    """Token ids (N, K) of `target_prompt_logprobs`, -1 where nothing is asked; Refused for other tensors."""
    shape = asked.shape or []
    if asked.dtype != "int64" or len(shape) != 2 or min(shape) < 0 or shape[0] * shape[1] > _MOST_VALUES:
        raise Refused(422, f"target_prompt_logprobs: {asked.dtype} {shape}; int64 of (tokens - 1, K) is needed")
    values = np.asarray(asked.data, dtype=np.int64)
    crow, column = asked.sparse_crow_indices, asked.sparse_col_indices
    if crow is None or column is None:
        if values.size != shape[0] * shape[1]:
            raise Refused(422, f"target_prompt_logprobs: {values.size} values for the shape {shape}")
        return values.reshape(shape)
    indices = np.asarray(crow, dtype=np.int64), np.asarray(column, dtype=np.int64)
    out = np.full(shape, -1, dtype=np.int64)
    out[_places(shape, *indices, values.size, "target_prompt_logprobs")] = values
    return out
