"""The page of one run: its evaluations before, at their best and last, where the guesses land, and its curves."""

from collections.abc import Sequence
from pathlib import Path

from geospot._version import __version__
from geospot.answer import parse_answer
from geospot.earth.place import Place
from geospot.report.charts import Chart
from geospot.report.demo_page import curve
from geospot.report.document import write_report
from geospot.report.metric_tables import Row, Table
from geospot.runs.config import typed_config
from geospot.runs.folder import read_document, read_metrics
from geospot.runs.overview import RunInfo, describe
from geospot.runs.rollouts import query_rollouts
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.metrics import Predictions
from geospot.scoring.truths import Truths
from geospot.training.closing import last_warnings

# Title, ending of a held-out set's keys, logarithmic.
SET_CURVES = (
    ("Median distance, km", "median_km", True),
    ("Score, points", "geoguessr_score", False),
    ("Different answers to the held-out pictures", "distinct_answers", False),
    ("Lines in form, share", "in_form", False),
)
INTERVALS = ("median_km", "geoguessr_score")
VERSIONS = ("python", "torch", "transformers", "tinker")  # of the last session
# Title, keys of metrics.jsonl with their names, logarithmic. A chart is drawn where the run has one of its keys.
CURVES = (
    ("Loss", (("loss", "loss"),), False),
    ("Reward (its scale tightens)", (("reward", "reward"),), False),
    ("Parts of the reward (labels by text)",
     tuple((f"reward_{part}", part) for part in ("coordinate", "country", "region", "city")), False),
    ("Shares of the reward by part",
     tuple((f"{part}_share", part) for part in ("coordinate", "country", "region", "city")), False),
    ("Tau, km", (("tau_km", "tau"),), True),
    ("Learning rate", (("learning_rate", "learning rate"),), False),
    ("What the reward cannot see, shares",
     (("groups_without_signal", "groups without signal"), ("dead_zone", "answers in the dead zone"),
      ("same_place_in_group", "answers of a group at one place")), False),
    ("Different answers of a step",
     (("distinct_answers", "coordinates"), ("decimal_endings", "decimal endings")), False),
    ("Answers in form, and cut off, shares", (("reward_form", "in form"), ("answers_cut_off", "cut off")), False),
    ("Pools by difficulty, shares", tuple((f"pool_{name}", name) for name in ("easy", "normal", "hard")), False),
    ("Entropy, nats per token", (("entropy", "entropy"),), False),
    ("Norm of the gradient", (("grad_norm", "norm"),), False),
)  # fmt: skip


def write_run_page(run: Path, out: Path) -> Path:
    """Write the page of a run folder, also while the run is going on; returns its path."""
    info, document = describe(run), read_document(run)
    rows = read_metrics(run) if (run / "metrics.jsonl").is_file() else []
    names = dict.fromkeys(k.rpartition("/")[0] for row in rows for k in row if k.endswith("/failure_rate"))
    tables, maps = [], {}
    for name in names:
        table, last = _table(run, rows, name)
        tables.append(table)
        if last is not None:
            maps[name] = last
    session = document["sessions"][-1] if document["sessions"] else {}
    return write_report(
        out,
        title=f"geospot {info.command}: {run.name}",
        tables=tables,
        maps=dict(reversed(maps.items())),
        charts=charts(rows, list(names)),
        configuration=typed_config(document["config"]),
        versions={"geospot": __version__, **{name: session[name] for name in VERSIONS if name in session}},
        command=session.get("command", ""),
        notes=[_state(info)],
        warnings=last_warnings(rows),
    )


def _state(info: RunInfo) -> str:
    of = "" if info.max_steps is None else f" of {info.max_steps}"
    text = f"This run of {info.model} is {info.state}: {info.steps}{of} steps are done."
    if info.best is not None:
        step, km, name = info.best
        text += f" At its best, before step {step}, half of its guesses on {name} lay within {km:,.0f} km of the truth."
    return text


def _table(run: Path, rows: Sequence[dict], name: str) -> tuple[Table, Predictions | None]:
    """A set's evaluations before the run, at their best (by score) and last, and the last one's guesses."""
    done = [row for row in rows if row.get(f"{name}/geoguessr_score") is not None]
    best = max(done, key=lambda row: row[f"{name}/geoguessr_score"], default=None)
    stages = {"before": done[0], "best": best, "last": done[-1]} if best is not None else {}
    shown, last = [], None
    for stage, row in stages.items():
        found = evaluation_at(run, name, row["step"])
        if found is not None:
            shown.append(Row(f"{stage}, step {row['step']}", found.summary, found.intervals))
            last = found.predictions
    return Table(name, shown, "the run's held-out set; greedy answers"), last


def evaluation_at(run: Path, name: str, step: int) -> Evaluation | None:
    """An evaluation of a run from its answers in rollouts.sqlite; None where they are not there."""
    if not (run / "rollouts.sqlite").is_file():
        return None
    rows = query_rollouts(
        run, "SELECT sample_key, text, true_lat, true_lon, true_city, true_region, true_country FROM rollouts "
        "WHERE split = ? AND step = ? ORDER BY group_index", [name, step],
    )  # fmt: skip
    if not rows:
        return None
    keys = [row["sample_key"] for row in rows]
    places = [Place(*(row[f"true_{part}"] for part in ("lat", "lon", "city", "region", "country"))) for row in rows]
    texts = [row["text"] for row in rows]
    return judge(Truths.of(keys, places), Guesses.of_answers(name, keys, list(map(parse_answer, texts)), texts))


def charts(rows: Sequence[dict], names: Sequence[str]) -> list[Chart]:
    """The curves that a run has."""
    found = []
    for title, ending, log in SET_CURVES:
        band = ending in INTERVALS
        series = [curve(rows, f"{name}/{ending}", name, band=band) for name in names]
        found.append(Chart(title, [one for one in series if len(one.steps)], log=log))
    for title, keys, log in CURVES:
        series = [curve(rows, key, name) for key, name in keys]
        found.append(Chart(title, [one for one in series if len(one.steps)], log=log))
    return [chart for chart in found if chart.series]
