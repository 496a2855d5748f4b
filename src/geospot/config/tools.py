"""What the commands around the loops are configured with: demo, data, serve, export, doctor."""

from dataclasses import fields
from typing import Any, Literal

import chz

from geospot.config.engine import SOURCES, EngineConfig, SourceConfig, check_workers
from geospot.config.keys import HOST_DOC, OPEN_DOC, check_port, not_negative, one_of, positive, topic
from geospot.config.loops import SftConfig, TrainConfig
from geospot.data.fields import Columns
from geospot.data.pack import PackSettings
from geospot.models.loading import TINY, TINY_UNTRAINED

_input, _model, _engine, _data = topic("Input"), topic("Model"), topic("Engine"), topic("Data")
_reward, _optim, _eval, _output = topic("Reward"), topic("Optimisation"), topic("Evaluation"), topic("Output")

_SOURCE = f"bluemarble, or {SOURCES}; the key itself may be omitted"


@chz.chz
class DemoConfig:
    """Run the whole recipe on the Blue Marble world; the same command resumes a demo that was stopped.

    geospot demo out=runs/demo
    """

    model_name: str = _model(TINY, f"{TINY} (knows the Earth, not the game) or {TINY_UNTRAINED} (needs more steps)")
    threads: int = _engine(0, "CPU threads for torch; 0: one per core")
    train_places: int = _data(8192, "pictures to train on")
    coord_tau_start: float = _reward(300.0, "tau at the start, km: a few times the error after SFT")
    coord_tau: float = _reward(25.0, "tau at the end, km: less than half of it")
    sft_steps: int = _optim(640, "SFT steps of 16 pictures")
    grpo_steps: int = _optim(200, "GRPO steps of 16 pictures with 16 answers each")
    sft_learning_rate: float = _optim(7e-4, "peak learning rate of SFT")
    grpo_learning_rate: float = _optim(3e-4, "peak learning rate of GRPO")
    seed: int = _optim(0, "seed of both runs; the places do not depend on it")
    out: str = _output("runs/demo", "folder for the two runs, report.html and results.json")

    @chz.validate
    def _check_demo(self):
        one_of("model_name", self.model_name, (TINY, TINY_UNTRAINED))
        positive(self, "train_places", "sft_steps", "grpo_steps", "sft_learning_rate", "grpo_learning_rate")
        not_negative(self, "threads", "seed")
        self.sft(), self.train()  # refuses what does not fit together

    def shared(self) -> dict[str, Any]:
        """What both runs have in common."""
        return {
            "model_name": self.model_name,
            "lora_rank": 0,
            "seed": self.seed,
            "train_places": self.train_places,
            "eval_places": 512,
            "threads": self.threads,
            "save_every": 0,
            "max_tokens": 24,
        }

    def sft(self) -> SftConfig:
        """The warm start."""
        return SftConfig(
            log_path=f"{self.out}/sft",
            max_steps=self.sft_steps,
            batch_size=16,
            eval_every=320,
            learning_rate=self.sft_learning_rate,
            **self.shared(),
        )

    def train(self) -> TrainConfig:
        """GRPO from there."""
        return TrainConfig(
            log_path=f"{self.out}/train",
            checkpoint=f"{self.out}/sft",
            max_steps=self.grpo_steps,
            batch_size=16,
            group_size=16,
            eval_every=50,
            learning_rate=self.grpo_learning_rate,
            coord_tau_start=self.coord_tau_start,
            coord_tau=self.coord_tau,
            **self.shared(),
        )


@chz.chz
class StudyConfig:
    """Compare variants of `train` over several seeds: a plan of runs in, a table with intervals out.

    geospot study studies/lab/plan.toml out=runs/lab jobs=2
    """

    plan: str = _input(
        ...,
        "TOML, YAML or JSON file with variants, starts, seeds and baseline, see docs/study.md; the key itself may be "
        "omitted",
    )
    resamples: int = _eval(2000, "bootstrap resamples of the places, 100 or more")
    seed: int = _eval(0, "seed of the resamples")
    finished_only: bool = _output(False, "train nothing: report on the runs that are finished")
    keep_weights: bool = _output(True, "false: delete a run's checkpoints once it is finished; its answers stay")
    figures: bool = _output(False, "also write figure.png and figure.pdf for papers (extra figures)")
    out: str = _output(..., "folder for the runs and the results; the same command resumes")
    jobs: int = _engine(1, "runs side by side, each a process of its own if more than one")
    threads: int = _engine(0, "CPU threads per run for torch; 0: the cores divided by jobs")

    @chz.validate
    def _check_study(self):
        positive(self, "jobs")
        not_negative(self, "threads", "seed")
        if self.resamples < 100:
            raise ValueError(f"resamples={self.resamples}: must be 100 or above; intervals need the tails")


@chz.chz
class InspectConfig:
    """Look through a data set: counts, sizes, countries, a map, bad samples, duplicates, leaks.

    geospot data inspect photos/ out=photos.html
    """

    data: str = _input(..., _SOURCE)
    against: str | None = _input(None, "another source; exit with status 1 if anything of it is in this one")
    near_km: float = _input(1.0, "places of `against` nearer than this are leaks, km")
    columns: str = _data("", "metadata keys that are not detected automatically: lat=KEY,lon=KEY,image=KEY,...")
    limit: int = _data(0, "stop after this many places (shards in a seeded order); 0: all")
    decode: bool = _data(True, "decode pictures to the end, which finds damaged ones; false: headers only")
    data_workers: int = _data(-1, "processes that decode pictures; -1: one less than the cores")
    seed: int = _data(0, "seed of the contact sheet and of `limit`")
    out: str | None = _output(None, "page to write, with a map and a contact sheet: FILE.html")

    @chz.validate
    def _check(self):
        Columns.parse(self.columns)
        not_negative(self, "limit", "seed")
        positive(self, "near_km")
        check_workers(self.data_workers)
        if self.out is not None and not self.out.endswith((".html", ".htm")):
            raise ValueError(f"out={self.out}: must end in .html")


@chz.chz
class PackConfig(SourceConfig):
    """Write any data set as WebDataset shards, in parallel; the same command resumes one that was stopped.

    geospot data pack photos.csv out=shards max_pixels=262144 eval_fraction=0.02
    """

    data: str = _input(..., _SOURCE)
    max_pixels: int | None = _data(None, "larger pictures are scaled down to this many pixels; none: never")
    fill_labels: bool = _data(True, "derive missing country, region and city labels from the coordinates")
    shuffle: bool = _data(True, "seeded order; false: the source's own order")
    shuffle_buffer: int = _data(1000, "places in memory (encoded) from which the next one is drawn")
    seed: int = _data(0, "seed of the order, the choice of views and the held-out cells")
    eval_fraction: float = _data(0.0, "share of the map cells to hold out in OUT/eval; 0: no split")
    cell_km: float = _data(100.0, "side length of a map cell, km, for eval_fraction")
    holdout_km: float = _data(1.0, "least distance between places of OUT/eval and OUT/train, km")
    shard_samples: int = _output(1000, "places per shard")
    out: str = _output(..., "folder to write: new, empty, or one that this command was stopped in")

    @chz.validate
    def _check_pack(self):
        positive(self, "shard_samples", "max_pixels", "shuffle_buffer", "cell_km")
        not_negative(self, "seed", "eval_fraction", "holdout_km")
        _ = self.settings.split  # refuses what does not fit together

    @property
    def settings(self) -> PackSettings:
        """What decides the bytes."""
        return PackSettings(**{field.name: getattr(self, field.name) for field in fields(PackSettings)})


@chz.chz
class RunsConfig:
    """List the run folders there are: state, steps, best figure, size, checkpoint.

    geospot runs
    """

    folder: str = _input("runs", "folder that is searched; the key itself may be omitted")


@chz.chz
class ReportConfig:
    """Draw a page of a run, finished or not: evaluations, a map, curves, the configuration.

    geospot report runs/train-tiny
    """

    run: str = _input(..., "run folder; the key itself may be omitted")
    out: str | None = _output(None, "page to write, FILE.html; none: report.html in the run folder")

    @chz.validate
    def _check_report(self):
        if self.out is not None and not self.out.endswith((".html", ".htm")):
            raise ValueError(f"out={self.out}: must end in .html")


@chz.chz
class WatchConfig:
    """Watch runs on a page while they train, and afterwards: answers on a map, curves, time left.

    geospot watch runs/train-tiny
    """

    run: str = _input("runs", "run folder, or a folder of runs to lay over each other; the key itself may be omitted")
    host: str = _output("127.0.0.1", HOST_DOC)
    port: int = _output(8322, "port to listen on; 0: any free one")
    open: bool = _output(True, OPEN_DOC)
    out: str | None = _output(None, "write the replay as one page instead, FILE.html, and serve nothing")

    @chz.validate
    def _check_watch(self):
        check_port(self.port)
        if self.out is not None and not self.out.endswith((".html", ".htm")):
            raise ValueError(f"out={self.out}: must end in .html")


@chz.chz
class DoctorConfig:
    """Say what this machine can run: devices, speed, disk, network, extras, and which models fit at which batch.

    geospot doctor
    """

    folder: str = _input(".", "folder whose disk is measured, where runs and models will be")
    base_url: str | None = _engine(None, "server of the Tinker protocol to try; none: the hosted service, with a key")
    json: bool = _output(False, "print JSON rather than text")


@chz.chz
class CompletionConfig:
    """Print a script that lets a shell complete commands, keys and values.

    geospot completion bash
    """

    shell: Literal["bash", "zsh", "fish"] = _input(..., "bash, zsh or fish; the key itself may be omitted")


@chz.chz
class ServeConfig(EngineConfig):
    """Serve the local engine over the protocol of the Tinker SDK 0.38.

    geospot serve model_name=Qwen/Qwen2.5-VL-3B-Instruct
    """

    max_rank: int = _engine(256, "highest adapter rank to accept")
    host: str = _output("127.0.0.1", "address to listen on; other than loopback it needs TINKER_API_KEY")
    port: int = _output(8321, "port to listen on; 0: any free one")
    checkpoint_dir: str = _output("runs/serve", "folder for checkpoints; they survive a restart")
    request_log: str | None = _output(None, "file for a line of JSON per request, without keys; `-`: standard output")

    @chz.validate
    def _check_serve(self):
        check_port(self.port)
        positive(self, "max_rank")
        if self.engine == "tinker" or self.base_url is not None:
            raise ValueError("engine, base_url: `geospot serve` is itself the server; omit them")


@chz.chz
class ExportConfig:
    """Export a checkpoint as a PEFT adapter, as merged weights in Hugging Face format, or as both.

    geospot export checkpoint=runs/train-tiny out=exported
    """

    checkpoint: str = _input(..., "run folder, checkpoint or tinker:// path")
    base_url: str | None = _engine(None, "server of a tinker:// path; none: hosted service")
    server_timeout_s: float = _engine(45.0, "a server silent for this many seconds is considered dead")
    out: str = _output(..., "folder to write; adapter and merged weights go into subfolders of these names")
    form: Literal["auto", "adapter", "merged", "both"] = _output(
        "auto", "adapter, merged or both; auto: adapter if one was trained, else merged"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = _output(
        "auto", "precision of merged weights: float32 or bfloat16; auto: the base model's"
    )
    push: str | None = _output(None, "hub repository to upload to, owner/name (run `hf auth login` first)")
    private: bool = _output(True, "create the repository as private if it does not exist")

    @chz.validate
    def _check_export(self):
        if self.push is not None and self.push.count("/") != 1:
            raise ValueError(f"push={self.push}: must be owner/name")
        if self.push is not None and self.form == "both":
            raise ValueError("form=both: a repository holds one model; push the adapter and the merged weights apart")
