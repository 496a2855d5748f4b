"""The README.md of exported weights: what they are, how they were trained, how well they do, how to load them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import ModelCardData

from geospot._version import __version__
from geospot.models.loading import is_tiny
from geospot.runs.folder import read_config, read_metrics
from geospot.training.held_out import LOGGED

if TYPE_CHECKING:
    from tinker.types import WeightsInfoResponse

_LOAD = {
    "merged": """\
from transformers import AutoModelForImageTextToText

model = AutoModelForImageTextToText.from_pretrained("{folder}")
""",
    "adapter": """\
from peft import PeftModel
from transformers import AutoModelForImageTextToText

model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained("{base}"), "{folder}")
""",
}


def model_card(given: str, checkpoint: str, info: "WeightsInfoResponse", form: str) -> str:
    """The card. `given` is what the user named, a run folder or a checkpoint, and `info` is of its weights."""
    run = find_run(given, checkpoint)
    on_hub = info.base_model.count("/") == 1 and not (is_tiny(info.base_model) or Path(info.base_model).exists())
    header = ModelCardData(
        base_model=info.base_model if on_hub else None,
        library_name="peft" if form == "adapter" else "transformers",
        pipeline_tag="image-text-to-text",
        tags=["geolocation", "geoguessr", "geospot"],
    )
    what = f"a LoRA adapter of rank {info.lora_rank}" if form == "adapter" else "merged weights"
    parts = [
        f"---\n{header.to_yaml()}\n---",
        f"# {Path(run or given).name}",
        f"{info.base_model}, trained with geospot {__version__} to say where a picture was taken: {what}.",
        "The model answers with `City`, `Country`, `Latitude` and `Longitude`, one per line.",
        f"```python\n{_LOAD[form].format(base=info.base_model, folder='.')}```",
    ]
    if run is not None:
        if table := metrics_table(run):
            parts += ["## Metrics", "On the run's held-out sets, every answer counted, with 95 % intervals:", table]
        config = {key: value for key, value in read_config(run).items() if value is not None}
        parts += ["## Configuration", f"```json\n{json.dumps(config, indent=1)}\n```"]
    return "\n\n".join(parts) + "\n"


def find_run(given: str, checkpoint: str) -> Path | None:
    """The run folder that was named, or that the checkpoint lies in."""
    places = [Path(given).expanduser(), *Path(checkpoint).parents[1:2]]
    return next((place for place in places if (place / "config.json").is_file()), None)


def metrics_table(run: Path) -> str:
    """The last evaluation of a run as a Markdown table; empty where there was none."""
    rows = [row for row in read_metrics(run) if any(key.endswith("/median_km") and "eval" in key for key in row)]
    if not rows:
        return ""
    last = rows[-1]
    sets = sorted({key.split("/")[0] for key in last if key.startswith("eval") and "/" in key})
    lines = [f"| step {last['step']} | " + " | ".join(sets) + " |", "|---|" + "---|" * len(sets)]
    for metric in LOGGED:
        cells = [_cell(last, f"{name}/{metric}") for name in sets]
        if any(cells):
            lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict, key: str) -> str:
    value, low, high = (row.get(key + end) for end in ("", "_low", "_high"))
    if value is None:
        return ""
    return f"{value:.4g}" + (f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else "")
