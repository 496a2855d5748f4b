"""What papers report: every row with its source and what it leaves out, apart from what was scored here."""

import pytest

from geospot.scoring.published import PUBLISHED, published_notes, published_rows


def test_every_row_has_a_source_and_says_what_it_leaves_out():
    for row in PUBLISHED:
        assert "arXiv:" in row.source or "README" in row.source or row.rescored, row.model
        assert row.left_out
        assert row.metrics
        assert all(
            0 < value <= 1 for key, value in row.metrics.items() if key.startswith("acc_") or key.endswith("_acc")
        )
        shares = [value for key, value in row.metrics.items() if key.startswith("acc_")]
        assert shares == sorted(shares), row.model  # a larger radius holds no fewer
    models = " ".join(row.model for row in PUBLISHED)
    assert all(name in models for name in ("GRE", "Geo-R", "GeoRanker", "GLOBE", "GeoVista", "Thinking with Map"))
    assert len({(row.data, row.model) for row in PUBLISHED}) == len(PUBLISHED)


@pytest.mark.parametrize(
    ("data", "sets"),
    [("data/Im2GPS3k.csv", {"im2gps3k"}), ("osv-5m/test.csv", {"osv5m"}), ("IMAGEO-2-test.jsonl", {"imageo2"}),
     ("GeoBench/metadata.json", {"geobench"}), ("mine.csv", {row.data for row in PUBLISHED})],
)  # fmt: skip
def test_a_set_is_recognised_by_its_name(data, sets):
    assert {row.data for row in published_rows(data)} == sets


def test_what_was_scored_here_stands_apart():
    notes = published_notes("geobench")
    assert [note.startswith("Re-scored here") for note in notes] == [False] * (len(notes) - 1) + [True]
    assert "GPT-5, 33.3 / 46.9 / 59.6 / 63.2 / 67.1 / 75.0 % within 0.5 / 2 / 10 / 25 / 200 / 750 km" in notes[0]
    assert "185 of 934" in notes[0]
    assert "38.3 / 78.9 / 93.9 % within 0.5 / 25 / 750 km" in notes[-1]
    assert "OSV-5M baseline, geoguessr score 3,361, mean km 1,814, country (geo) 68.0 %" in published_notes("osv5m")[0]
