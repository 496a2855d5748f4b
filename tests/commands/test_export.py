"""Exported weights, loaded by plain transformers and peft, give the log-probabilities of the engine."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made import jpeg
from servers.tinker import Serving
from tinker import types
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from geospot import __main__ as geospot
from geospot.asking.requests import Asked
from geospot.cli import run_command
from geospot.commands.export import run
from geospot.config import ExportConfig, SftConfig
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.engine.open import open_engine
from geospot.errors import EngineError
from geospot.pictures import decode_image
from geospot.sft import run as run_sft

STEPS = {"max_steps": 2, "batch_size": 6, "learning_rate": 2e-2}


def engines_logprobs(config, checkpoint: str, renderer, base: str | None = None) -> tuple[types.ModelInput, list]:
    """A prompt with an answer, and what the engine says of its tokens with the trained weights (or the base)."""
    with open_engine(config) as service:
        sampler = service.create_sampling_client(model_path=None if base else checkpoint, base_model=base).result()
        sample = Sample("x", (jpeg(1),), Place(0.0, 1.0))
        asked = Asked(sampler, renderer, [sample], "Where?", num_samples=1, seeds=[0], max_tokens=12)
        tokens = asked.collect().sequences[0].tokens
        whole = types.ModelInput(chunks=[*asked.prompts[0].chunks, types.EncodedTextChunk(tokens=tokens)])
        return whole, sampler.compute_logprobs(whole).result()[-len(tokens) :]


def plain_logprobs(model, whole: types.ModelInput, base_folder: str, n: int, banned) -> np.ndarray:
    """The same from a model of transformers or peft, and an image processor of transformers."""
    processor = AutoImageProcessor.from_pretrained(base_folder, backend="pil")
    ids, kinds, images = [], [], []
    for chunk in whole.chunks:
        if isinstance(chunk, types.ImageChunk):
            ids += [model.config.image_token_id] * chunk.expected_tokens
            kinds += [1] * chunk.expected_tokens
            images.append(decode_image(chunk.data))
        else:
            ids += chunk.tokens
            kinds += [0] * len(chunk.tokens)
    pixels = processor(images=images, return_tensors="pt")
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            mm_token_type_ids=torch.tensor([kinds]),
            pixel_values=pixels["pixel_values"],
            image_grid_thw=pixels["image_grid_thw"],
        ).logits[0].float()  # fmt: skip
    logits[:, list(banned)] = -torch.inf
    logprobs = logits.log_softmax(-1)
    return np.array([float(logprobs[i - 1, ids[i]]) for i in range(len(ids) - n, len(ids))])


def load_plainly(folder, base: str):
    model = AutoModelForImageTextToText.from_pretrained(base if folder.name == "adapter" else folder)
    if folder.name == "adapter":
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder))
    return model.eval()


@pytest.mark.parametrize("rank", [4, 0])
@pytest.mark.parametrize("engine", ["local", "tinker"])
def test_plain_transformers_and_peft_agree(engine, rank, common, renderer, tiny_folder, tmp_path, capsys):
    settings = common | STEPS | {"lora_rank": rank, "engine": engine, "log_path": str(tmp_path / "run")}
    settings |= {"eval_data": "none", "save_every": 0}
    with Serving(tiny_folder, tmp_path / "served") as server:
        where = {"base_url": server.url} if engine == "tinker" else {}
        config = SftConfig(**settings, **where)
        run_sft(config)
        written = run(ExportConfig(
            checkpoint=str(tmp_path / "run"), out=str(tmp_path / "out"), form="both" if rank else "auto", **where
        ))  # fmt: skip
        from geospot.runs.checkpoints import find_checkpoint

        whole, ours = engines_logprobs(config, find_checkpoint(str(tmp_path / "run")), renderer)
    assert set(written) == ({"adapter", "merged"} if rank else {"merged"})
    banned = renderer.processing.banned_token_ids
    for folder in written.values():
        theirs = plain_logprobs(load_plainly(folder, tiny_folder), whole, tiny_folder, len(ours), banned)
        np.testing.assert_allclose(theirs, ours, atol=2e-4)
    base = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    assert np.abs(plain_logprobs(base, whole, tiny_folder, len(ours), banned) - ours).max() > 0.05, (
        "nothing was learned"
    )
    if "merged" in written:
        assert AutoTokenizer.from_pretrained(written["merged"]).chat_template == renderer.tokenizer.chat_template
    assert f"wrote {written['merged']}" in capsys.readouterr().out


@pytest.fixture(scope="module")
def trained(run_settings, tmp_path_factory) -> Path:
    """The folder of a run of all weights."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    run_sft(SftConfig(**run_settings | STEPS, log_path=str(folder)))
    return folder


def test_the_card_holds_configuration_and_metrics(trained, tmp_path):
    folder = run(ExportConfig(checkpoint=str(trained), out=str(tmp_path / "out")))["merged"]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert "pipeline_tag: image-text-to-text" in card
    last = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()][-1]
    assert f"| median_km | {last['eval/median_km']:.4g} (" in card
    configuration = json.loads(card.split("```json\n")[1].split("```")[0])
    assert configuration["learning_rate"] == STEPS["learning_rate"]
    assert "AutoModelForImageTextToText" in card


def test_what_cannot_be_exported_is_refused_first(trained, tmp_path, capsys):
    given = {"checkpoint": str(trained), "out": str(tmp_path / "out")}
    with pytest.raises(EngineError, match="there is no adapter; set form=merged"):
        run(ExportConfig(**given, form="adapter"))
    (tmp_path / "out" / "merged").mkdir(parents=True)
    with pytest.raises(EngineError, match="merged exists"):
        run(ExportConfig(**given))
    with pytest.raises(SystemExit):
        run_command("export", ExportConfig, run, ["checkpoint=a", "out=b", "push=nobody"])
    assert "push=nobody: must be owner/name" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_leaves_the_folder(trained, common, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EngineError, match=r"push=me/model: .* is whole"):
        run(ExportConfig(checkpoint=str(trained), out=str(tmp_path / "out"), push="me/model"))
    weights = tmp_path / "out" / "merged" / "model.safetensors"
    assert weights.is_file()
    # The remedy works: the same command finds the export and only pushes, however often.
    written = weights.stat().st_mtime_ns
    words = ["export", f"checkpoint={trained}", f"out={tmp_path}/out"]
    with pytest.raises(SystemExit):
        geospot.main([*words, "push=me/model"])
    captured = capsys.readouterr()
    assert "holds this export already" in captured.out
    assert "then give the same command again, which only pushes" in captured.err
    pushed = []
    monkeypatch.setattr("geospot.commands.export.push", lambda folder, name, private: pushed.append(folder) or name)
    geospot.main([*words, "push=me/model"])
    assert pushed == [tmp_path / "out" / "merged"]
    assert weights.stat().st_mtime_ns == written
    # Another checkpoint in its place is refused.
    run_sft(SftConfig(**common | STEPS | {"eval_data": "none", "seed": 1}, log_path=str(tmp_path / "other")))
    with pytest.raises(SystemExit):
        geospot.main(["export", f"checkpoint={tmp_path}/other", f"out={tmp_path}/out"])
    assert "is not an export of this checkpoint" in capsys.readouterr().err
