"""The light install: numbers, tables and pages of predictions need neither a model's libraries nor the train extra."""

import subprocess
import sys

HEAVY = ("torch", "tinker", "transformers", "PIL", "rich", "chz", "pyarrow", "matplotlib", "huggingface_hub")
SCORES = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it raises ImportError
import importlib, pathlib, pkgutil
import geospot.earth, geospot.scoring
for room in (geospot.earth, geospot.scoring):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
from geospot.report.evaluation import report_evaluations
from geospot.scoring.results import prediction_rows, write_predictions
from geospot.scoring.tables.evaluations import evaluate_file
found = evaluate_file(sys.argv[1])
out, about = pathlib.Path(sys.argv[2]), {{"predictions": sys.argv[1]}}
write_predictions(out, prediction_rows(found))
report_evaluations(out.parent, {{"m": found}}, data="", configuration={{}}, about=about, gallery={{}})
"""


def test_an_evaluation_of_a_file_runs_without_the_heavy_packages(tmp_path):
    path = tmp_path / "guesses.csv"
    path.write_text("key,lat,lon,true_lat,true_lon\na,48.8,2.3,48.9,2.4\nb,,,10,20\nc,1,2,3,4\n")
    command = [sys.executable, "-c", SCORES.format(blocked=HEAVY), str(path), str(tmp_path / "predictions.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} >= {"predictions.jsonl", "metrics.json", "report.html"}
