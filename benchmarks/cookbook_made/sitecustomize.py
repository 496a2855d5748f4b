"""Made-up data and rewards under the names that the Tinker cookbook's recipes ask for (see `benchmarks/cookbook.py`).

Python runs this at the start of every process that has this folder on its path; the recipes themselves are untouched.
"""

import sys
from typing import Any


def _rows(name: str) -> list[dict[str, Any]]:
    """Sums as a data set of this name has its rows."""
    pairs = [(a, b) for a in range(8) for b in range(8)]
    asked = [(f"What is {a} + {b}?", str(a + b)) for a, b in pairs]
    if "gsm8k" in name:
        return [{"question": q, "answer": f"It is so. #### {a}"} for q, a in asked[:16]]
    if "MATH-500" in name or "DeepMath" in name:
        return [{"problem": q, "question": q, "solution": f"\\boxed{{{a}}}", "final_answer": a} for q, a in asked]
    if "hh-rlhf" in name:
        return [
            {"chosen": f"\n\nHuman: {q}\n\nAssistant: {a}", "rejected": f"\n\nHuman: {q}\n\nAssistant: no"}
            for q, a in asked
        ]
    if "SciKnowEval" in name:
        choices = {"label": ["A", "B"], "text": ["yes", "no"]}
        return [
            {"domain": "Chemistry", "details": {"level": "L3"}, "type": "mcq-2-choices", "question": q,
             "choices": choices, "answerKey": "A"}
            for q, _ in asked
        ]  # fmt: skip
    copies = 6 if "no_robots" in name else 1  # more than a batch of sl_basic has
    return [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in asked * copies
    ]


def _pictures() -> Any:
    """Plain squares of three colours, labelled by them."""
    import datasets
    from PIL import Image

    colours = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200)}
    rows = [
        {"image": Image.new("RGB", (84 + 14 * (i % 3), 84), rgb), "label": label}
        for i in range(8)
        for label, rgb in enumerate(colours.values())
    ]
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(colours)))
    return datasets.Dataset.from_list(rows, features=features)


def _made(path: str, *args: object, split: str | None = None, **kwargs: object) -> Any:
    import datasets

    rows = _pictures() if "dpdl-benchmark" in path else datasets.Dataset.from_list(_rows(path))
    if split is not None:
        return rows
    return datasets.DatasetDict(train=rows, test=rows, validation=rows, train_sft=rows, test_sft=rows)


def _use_made() -> None:
    import datasets
    from tinker_cookbook.recipes.math_rl import math_grading

    datasets.load_dataset = _made
    # An untrained model never answers right, and without a difference in reward nothing is learned.
    math_grading.extract_boxed = lambda text: text
    math_grading.grade_answer = lambda given, truth: len(given) % 2 == 0


if any("tinker_cookbook.recipes" in word for word in sys.orig_argv):
    _use_made()
