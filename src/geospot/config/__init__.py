"""Every configuration: a class per command, checked when it is made; none needs torch or the SDK.

The first line of a command's class is what `--help` says of it, the second its example.

A module is imported when one of its names is asked for: scoring a file needs nothing of a training run.
"""
# ruff: noqa: F401 (for type checkers, who do not call `__getattr__`)

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geospot.config.asking import (
        API_MAX_TOKENS,
        DEMO_RUN,
        FORMATS,
        MAX_TOKENS,
        AskConfig,
        CalibrateConfig,
        CompareConfig,
        EvalConfig,
        GuessConfig,
        GuesserConfig,
        PlayConfig,
        PriorConfig,
        ProbeConfig,
    )
    from geospot.config.endpoint import ApiConfig
    from geospot.config.engine import SOURCES, EngineConfig, SourceConfig
    from geospot.config.loops import (
        LOSSES,
        PRICES,
        LoopConfig,
        SftConfig,
        TrainConfig,
        default_log_path,
    )
    from geospot.config.tools import (
        CompletionConfig,
        DemoConfig,
        DoctorConfig,
        ExportConfig,
        InspectConfig,
        PackConfig,
        ReportConfig,
        RunsConfig,
        ServeConfig,
        StudyConfig,
        WatchConfig,
    )

_NAMES = {
    "endpoint": "ApiConfig",
    "asking": (
        "API_MAX_TOKENS DEMO_RUN FORMATS MAX_TOKENS AskConfig CalibrateConfig CompareConfig EvalConfig "
        "GuessConfig GuesserConfig PlayConfig PriorConfig ProbeConfig"
    ),
    "engine": "SOURCES EngineConfig SourceConfig",
    "loops": "LOSSES PRICES LoopConfig SftConfig TrainConfig default_log_path",
    "tools": (
        "CompletionConfig DemoConfig DoctorConfig ExportConfig InspectConfig PackConfig ReportConfig "
        "RunsConfig ServeConfig StudyConfig WatchConfig"
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(_HOMES)
