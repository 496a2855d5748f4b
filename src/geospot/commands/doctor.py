"""`geospot doctor`: what this machine can run, and the command to start with."""

import importlib.metadata
import json
import platform
from typing import Any

from geospot._version import __version__
from geospot.commands import measurements, reach
from geospot.config import DoctorConfig
from geospot.errors import install_extra
from geospot.progress import table

GIB = 1 << 30
TASKS = ("sft", "train", "eval", "guess")  # as commands are called
PACKAGES = ("numpy", "torch", "transformers", "peft", "tinker", "huggingface-hub", "pillow")
# Extra -> what it adds, and the modules that it installs.
EXTRAS = {
    "train": (
        "training, sampling and guessing, here or on Tinker; pictures; data in Parquet",
        "torch transformers peft tinker huggingface_hub httpx2 fsspec PIL rich pyarrow mpl_toolkits.basemap_data",
    ),
    "parquet": ("predictions and truths in Parquet", "pyarrow"),
    "heic": ("photos in HEIC, as phones take them", "pillow_heif"),
    "serve": ("geospot serve", "starlette uvicorn pyrage prometheus_client"),
    "api": ("models behind APIs in eval, guess and calibrate", "openai anthropic google.genai genai_prices httpx2 PIL"),
    "pages": ("geospot watch and play", "starlette uvicorn"),
    "figures": ("maps and curves as PNG and PDF", "matplotlib"),
    "wandb": ("log_to=wandb", "wandb"),
    "tensorboard": ("log_to=tensorboard", "tensorboard"),
    "trackio": ("log_to=trackio", "trackio"),
}  # fmt: skip


def run(config: DoctorConfig) -> dict[str, Any]:
    """Measure, and print as text or JSON; returns what was found."""
    found = examine(config)
    print(json.dumps(found, indent=1) if config.json else as_text(found))
    return found


def examine(config: DoctorConfig) -> dict[str, Any]:
    """All that is said of the machine, as plain JSON."""
    extras = {
        name: {"adds": adds, "installed": all(reach.find_spec_of(module) for module in modules.split())}
        for name, (adds, modules) in EXTRAS.items()
    }
    has_torch = reach.find_spec_of("torch") is not None
    machine = measurements.processor()
    gpus = measurements.gpus() if has_torch else []
    found: dict[str, Any] = {
        "versions": {"geospot": __version__, "python": platform.python_version(), **versions()},
        "system": platform.platform(terse=True),
        "cpu": machine,
        "gpus": gpus,
        "speed": [dict(row, device="cpu") for row in
                  (measurements.products("cpu") if has_torch else measurements.numpy_product())],
        "disk": measurements.disk(config.folder),
        "hub": reach.hub(),
        "tinker": reach.service(config.base_url),
        "extras": extras,
        "models": [],
    }  # fmt: skip
    if gpus:
        found["speed"] += [dict(row, device="cuda") for row in measurements.products("cuda")]
    if has_torch and extras["train"]["installed"]:
        found["models"] = models(gpus)
    found["start"] = start(found)
    return found


def versions() -> dict[str, str | None]:
    """Package -> version, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name) if reach.find_spec_of(_module(name)) else None
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _module(package: str) -> str:
    return {"pillow": "PIL"}.get(package, package.replace("-", "_"))


def models(gpus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which of the known models fit, and at which batch, on the GPU with the most memory or on the CPU."""
    from geospot.engine.local.memory import available_bytes
    from geospot.training.capacity import capacities

    available = max((gpu["memory"] for gpu in gpus), default=None) or available_bytes("cpu")
    if available is None:
        return []
    fitting = (
        capacities(available, ["bfloat16"]) if gpus else capacities(available, ["float32", "bfloat16"], device="cpu")
    )
    return [
        {
            "model": c.model.name,
            "parameters": c.model.parameters,
            "dtype": "float32" if c.model.name.startswith("geospot/") else c.dtype,
            "trains": c.trains,
            **{
                task: {"batch": fit.batch, "bytes": fit.n_bytes, "settings": list(fit.settings)}
                for task, fit in c.fits.items()
            },
        }
        for c in fitting
    ]


def start(found: dict[str, Any]) -> str:
    """The command to start with."""
    if not found["extras"]["train"]["installed"]:
        return f"{install_extra('train')}, then geospot demo"
    if not found["gpus"]:
        if found["tinker"]["reachable"]:
            return "geospot demo; then, on the service, geospot sft engine=tinker model_name=ONE_OF_THOSE_IT_SERVES"
        return "geospot demo"  # what a CPU trains in minutes
    trained = [m for m in found["models"] if m["trains"] and not m["model"].startswith("geospot/")]
    if not trained:
        return "geospot demo"
    best = trained[-1]
    words = [f"model_name={best['model']}", f"batch_size={best['sft']['batch']}", *best["sft"]["settings"]]
    return f"geospot sft {' '.join(words)} max_steps=1000"


def as_text(found: dict[str, Any]) -> str:
    """For people."""
    cpu, disk = found["cpu"], found["disk"]
    memory = "" if cpu["memory"] is None else f", {cpu['memory'] / GIB:.1f} GiB of memory"
    lines = [
        "versions  " + ", ".join(f"{name} {version or '–'}" for name, version in found["versions"].items()),
        f"system    {found['system']}",
        f"CPU       {cpu['name']}: {cpu['cores']} cores{memory}, load {cpu['load']}"
        + (f"; {', '.join(cpu['instructions'])}" if cpu["instructions"] else ""),
        *(f"GPU       {g['name']}: {g['memory'] / GIB:.1f} GiB, {g['free'] / GIB:.1f} free" for g in found["gpus"]),
        *([] if found["gpus"] else ["GPU       none that torch sees" if found["versions"]["torch"] else
                                    "GPU       unknown without torch"]),
        "disk      " + (f"{disk['folder']}: {disk['problem']}" if "problem" in disk else
                        f"{disk['folder']}: writes {disk['write_mb_s']:,.0f} MB/s, reads {disk['read_mb_s']:,.0f}, "
                        f"{disk['free'] / 1e9:,.0f} GB free"),
        f"hub       {found['hub']['says']}",
        f"Tinker    {found['tinker']['says']}",
        "",
        "Matrix products, GFLOP/s, by how the weight is laid out",
        table({"device": s["device"], "precision": s["dtype"], "layout": s["layout"], "GFLOP/s": s["gflops"]}
              for s in found["speed"]),
        "",
        "Extras",
        *(f"  {name:<12} {'installed' if e['installed'] else '–':<10} {e['adds']}"
          for name, e in found["extras"].items()),
    ]  # fmt: skip
    lines += ["", *_models_text(found), "", f"Start with  {found['start']}"]
    return "\n".join(lines)


def _models_text(found: dict[str, Any]) -> list[str]:
    if not found["models"]:
        return ["Which models fit is known once the extra train is installed"]

    def cell(fit: dict[str, Any], *, batched: bool) -> str:
        gib = fit["bytes"] / GIB
        if not fit["batch"]:
            return f"no ({gib:.0f} GiB)"
        return f"{fit['batch'] if batched else 'yes'} ({gib:.1f}){'*' if fit['settings'] else ''}"

    rows = [
        {
            "model": m["model"].removeprefix("Qwen/"),
            "size": _size(m["parameters"]),
            "precision": m["dtype"],
            **{task: cell(m[task], batched=task in ("sft", "train")) for task in TASKS},
        }
        for m in found["models"]
    ]
    head = (
        "Which models fit: the largest batch_size with an adapter of rank 32 (all weights of the tiny model), and GiB"
    )
    settings = {word for m in found["models"] for task in TASKS for word in m[task]["settings"]}
    return [head, table(rows, 120), *(["* with " + " ".join(sorted(settings))] if settings else [])]


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"
