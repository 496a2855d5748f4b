"""Mutated answers through parser and reward: nothing raises, nothing pays more than honesty, time grows with length.

    uv run python benchmarks/reliability/answers.py [--answers 1000000] [--workers 1] [--seed 0] [--out FILE]

An author knows that a picture is from one of two places. Honest answers name one of them; a mutated answer is such a
one in some writing, cut, doubled, spliced with the other place's, sprinkled with what breaks parsers or with another
name of its country (its state's, one that two countries share). Its mean reward over the two places must not exceed
that of the best honest answer, with or without a region. An answer that names a single place and lies within a
kilometre of it is honest whatever it earns: beside a border its other digits may earn a little more.
"""

import argparse
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

import geospot.answer.parse
from geospot._version import __version__
from geospot.answer import Answer, format_answer, parse_answer
from geospot.earth.distance import haversine_km
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.files import write_bytes_atomic
from geospot.progress import Progress, table
from geospot.reward import RewardConfig, reward_parts

CHUNK = 2000  # answers that are rewarded together
AUTHORS = 100  # of a chunk; what honesty earns is computed once an author
CONFIG, PROGRESS = RewardConfig(), (0.0, 0.5, 1.0)
LENGTHS = (125_000, 250_000, 500_000, 1_000_000)
# What a text of one megabyte repeats; the slowest of the hostile pieces of the tests, and some of each kind.
REPEATED = ("}", "{", "'", "1.1, 1.1\n", "北纬1度", "Latitude: 1 ", '{"a":', '{"lat":1,"lon":2}', "48° Norte ",
            "City: a\n",
            "https://a.b/@1.1,", "| lat | lon |\n", "1,000,", "<think></think>", "\\text{", "é")  # fmt: skip
SPRINKLED = (
    "\n", "\n\n", " ", ",", ";", ":", "|", "{", "}", "[", "]", "(", ")", '"', "'", "`", "```", "**", "\\",
    "<", ">", "/", "-", "+", "−", ".", "°", "′", "N", "S", "E", "W", "O", "Norte", "Oeste", "с. ш.", "北纬",
    "度", "9", "0", "1e999", "nan", "Latitude: ", "Longitude: ", "lat", "Coordinates: ", "City: ", "Country: ",
    "País: ", "Final answer: ", "or ", "and ", "<think>", "</think>", "<answer>", "<lat>", "\u200b", "\u202e",
    "\ud800", "\x00", "é", "а", "🇫🇷", "１", "Europe", "(FR)", "France, Germany", "1,035 m", "geo:1,2",
    "8FW4V75V+8Q", "https://maps.google.com/?q=1.5,2.5", '{"lat": 1, "lon": 2}',
)  # fmt: skip


@lru_cache(maxsize=1)
def world() -> list[Place]:
    """The largest three cities of each country, to the four decimals that an answer has."""
    gazetteer = Gazetteer.load()
    cities, taken, rows = gazetteer.cities, Counter(), []
    for row in np.argsort(-cities.population).tolist():
        taken[cities.country[row]] += 1
        if taken[cities.country[row]] <= 3:
            rows.append(row)
    at = gazetteer.locate(cities.lat[rows], cities.lon[rows])
    return [
        Place(
            round(float(cities.lat[r]), 4), round(float(cities.lon[r]), 4), cities.name[r], at.region[i], at.country[i]
        )
        for i, r in enumerate(rows)
        if at.country[i] and at.region[i]
    ]


def lines(p: Place) -> str:
    return format_answer(p, decimals=4, region=True)


def sides(value: float, letters: str) -> str:
    return f"{abs(value)}° {letters[value < 0]}"


WRITINGS: tuple[Callable[[Place], str], ...] = (
    lines,
    lambda p: json.dumps({"lat": p.lat, "lon": p.lon, "city": p.city, "region": p.region, "country": p.country}),
    lambda p: f"```json\n{{'city': '{p.city}', 'country': '{p.country}', 'lat': {p.lat}, 'lng': {p.lon}}}\n```",
    lambda p: f"**City:** {p.city}\n**Country:** {p.country}\n**Coordinates:** ({p.lat}, {p.lon})",
    lambda p: f"City: {p.city}, Country: {p.country}, {sides(p.lat, 'NS')}, {sides(p.lon, 'EW')}",
    lambda p: f"| City | Country | Lat | Lon |\n|-|-|-|-|\n| {p.city} | {p.country} | {p.lat} | {p.lon} |",
    lambda p: f"<think>{p.city}?</think><answer>{lines(p)}</answer>",
    lambda p: f"Ciudad: {p.city}\nPaís: {p.country}\nLatitud: {sides(p.lat, 'NS')}\nLongitud: {sides(p.lon, 'EO')}",
    lambda p: f"城市：{p.city}\n国家：{p.country}\n纬度：{p.lat}\n经度：{p.lon}",
    lambda p: json.dumps({"type": "Point", "coordinates": [p.lon, p.lat], "country": p.country}),
    lambda p: f"Country: {p.country}\nhttps://www.google.com/maps/@{p.lat},{p.lon},9z",
    lambda p: f"It is {p.city} in {p.country}, at latitude {p.lat} and longitude {p.lon}.",
)


SHARED = {"CD": "Congo", "CG": "Congo", "KR": "Korea", "KP": "Korea", "VI": "Virgin Islands", "VG": "Virgin Islands",
          "MF": "Saint Martin", "SX": "Saint Martin", "GF": "Guiana", "GY": "Guiana"}  # fmt: skip


@lru_cache(maxsize=1)
def related() -> list[tuple[Place, Place]]:
    """A place of a territory and one of its state, places of two countries that share a name, neighbours."""
    countries, places = Gazetteer.load().countries, world()
    lat, lon = np.array([(p.lat, p.lon) for p in places]).T
    near = haversine_km(lat[:, None], lon[:, None], lat, lon) < 100
    return [
        (one, other)
        for i, one in enumerate(places)
        for j, other in enumerate(places)
        if one.country != other.country
        and (
            countries.sovereign(one.country) == countries.sovereign(other.country)
            or (one.country in SHARED and SHARED[one.country] == SHARED.get(other.country))
            or near[i, j]
        )
    ]


def renamed(place: Place, rng: random.Random) -> Place:
    """A place, now and then with its country called by its state's name or by one that it shares."""
    names = [Gazetteer.load().countries.sovereign(place.country), SHARED.get(place.country, place.country)]
    return replace(place, country=rng.choice(names)) if rng.random() < 0.3 else place


def mutate(text: str, other: str, rng: random.Random) -> str:
    """One to six changes: something sprinkled, a piece cut, doubled or moved, one of the other answer's put in."""
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(text) + 1), rng.randint(1, 30)
        piece = text[at : at + length]
        kind = rng.randrange(7)
        if kind <= 1:
            text = text[:at] + rng.choice(SPRINKLED) + text[at:]
        elif kind == 2:
            text = text[:at] + text[at + length :]
        elif kind == 3:
            text = text[:at] + piece * rng.randint(2, 4) + text[at + length :]
        elif kind == 4:
            to = rng.randrange(len(text) + 1)
            text = text[:to] + piece + text[to:]
        elif kind == 5:
            start = rng.randrange(len(other) + 1)
            text = text[:at] + other[start : start + rng.randint(1, 80)] + text[at:]
        else:
            text = text + rng.choice(("\n", "\n\n", " or ", " / ", "\nFinal answer:\n")) + other
    return text


def draw_pair(places: list[Place], rng: random.Random) -> tuple[Place, Place]:
    """Two places: one in five times of related countries, else every other time of one country."""
    if rng.random() < 0.2:
        return rng.choice(related())
    one = rng.choice(places)
    near = [p for p in places if p.country == one.country and p != one]
    return one, rng.choice(near if near and rng.random() < 0.5 else [p for p in places if p != one])


def chunk_of(number: int, count: int, seed: int) -> dict[str, object]:
    """What `count` mutated answers gave: how many raised, were read, paid more than honesty, and the worst texts."""
    rng, places = random.Random(f"{seed} {number}"), world()
    progress, pairs, texts, answers = rng.choice(PROGRESS), [], [], []
    raised: list[str] = []
    start = time.process_time()
    authors = [draw_pair(places, rng) for _ in range(AUTHORS)]
    for _ in range(count):
        pair = rng.choice(authors)
        one, other = (rng.choice(WRITINGS)(renamed(place, rng)) for place in pair)
        text = mutate(one, other, rng)
        try:
            answer = parse_answer(text)
        except Exception as error:  # whatever it is, it is what this looks for
            raised.append(f"{type(error).__name__}: {text!r}")
            answer = Answer(None, None, error="raised")
        pairs.append(pair)
        texts.append(text)
        answers.append(answer)
    parse_s = time.process_time() - start
    earned = mean_reward(answers, pairs, progress)
    forms = [(i, region) for i in (0, 1) for region in (False, True)]
    written = [[format_answer(pair[i], decimals=4, region=region) for pair in authors] for i, region in forms]
    by_form = [mean_reward([parse_answer(text) for text in column], authors, progress) for column in written]
    best = dict(zip(authors, np.max(by_form, axis=0), strict=True))
    honest = np.array([best[pair] for pair in pairs])
    more = np.flatnonzero(earned > honest + 1e-9).tolist()
    above = [i for i in more if not any(is_honest(answers[i], place) for place in pairs[i])]
    return {
        "answers": count, "raised": raised, "read": sum(answer.ok for answer in answers), "parse_s": parse_s,
        "above": [{"text": texts[i], "earned": earned[i], "honest": honest[i], "known": [p.city for p in pairs[i]]}
                  for i in above],
        "honest_above": len(more) - len(above),
        "share": float(np.max(earned / honest)), "mean": float(np.sum(earned)), "honest": float(np.sum(honest)),
    }  # fmt: skip


def mean_reward(answers: list[Answer], pairs: list[tuple[Place, Place]], progress: float) -> np.ndarray:
    """The mean reward (N,) of each answer over the two places of its author."""
    totals = [reward_parts(answers, [pair[i] for pair in pairs], progress, CONFIG).total for i in (0, 1)]
    return np.mean(totals, axis=0)


def is_honest(answer: Answer, place: Place, km: float = 1.0) -> bool:
    """Whether an answer means one place: its labels are the place's and its coordinates lie within `km` of it."""
    labels = all(getattr(answer, name) in (None, getattr(place, name)) for name in ("city", "region", "country"))
    return labels and answer.ok and float(haversine_km(answer.lat, answer.lon, place.lat, place.lon)) <= km


def timings() -> list[dict[str, object]]:
    """Seconds of CPU by length for each repeated piece. The limit on an answer's length is lifted for this."""
    limit, geospot.answer.parse.MAX_CHARS = geospot.answer.parse.MAX_CHARS, 10**9
    rows = []
    for piece in REPEATED:
        row: dict[str, object] = {"repeated": piece.encode("unicode_escape").decode()}
        for length in LENGTHS:
            text = (piece * (length // len(piece) + 1))[:length]
            start = time.process_time()
            parse_answer(text)
            row[f"{length // 1000}k"] = round(time.process_time() - start, 2)
        row["last doubling"] = round(row["1000k"] / max(row["500k"], 0.01), 2)
        rows.append(row)
    geospot.answer.parse.MAX_CHARS = limit
    return rows


def kept(out: Path | None, seed: int) -> tuple[list[dict], int]:
    """What an earlier call with the same seed has written to `out`: its sums as one part, and the chunks done."""
    if out is None or not out.is_file():
        return [], 0
    facts = json.loads(out.read_text())
    if facts.get("seed") != seed or "sums" not in facts or facts["geospot"] != __version__:
        return [], 0
    return [facts["sums"]], facts["sums"]["answers"] // CHUNK


def summed(parts: list[dict]) -> dict:
    """Several parts as one."""
    keys = ("answers", "raised", "read", "parse_s", "above", "honest_above", "mean", "honest")
    total = {key: sum((part[key] for part in parts[1:]), parts[0][key]) for key in keys}
    return total | {"share": max(part["share"] for part in parts)}


def facts_of(sums: dict, seed: int, asked: int, lengths: list[dict[str, object]]) -> dict[str, object]:
    """What is recorded; "sums" is what a later call goes on from."""
    n = sums["answers"]
    return {
        "benchmark": "reliability_answers", "date": time.strftime("%Y-%m-%d"), "device": f"{os.cpu_count()} cores",
        "geospot": __version__, "seed": seed, "asked": asked, "answers": n, "read": sums["read"],
        "raised": len(sums["raised"]), "above_honest": len(sums["above"]), "honest_above": sums["honest_above"],
        "most_of_honest": sums["share"], "mean_reward": sums["mean"] / n, "mean_honest": sums["honest"] / n,
        "parse_us": 1e6 * sums["parse_s"] / n, "lengths": lengths,
        "last_doubling_most": max((row["last doubling"] for row in lengths), default=None), "sums": sums,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="written as it goes; the same command goes on from it")
    arguments = parser.parse_args()
    parts, first = kept(arguments.out, arguments.seed)
    numbers = range(first, -(-arguments.answers // CHUNK))
    jobs = numbers, [CHUNK] * len(numbers), [arguments.seed] * len(numbers)
    bar = Progress("mutated answers", total=arguments.answers, initial=first * CHUNK)
    with bar, ProcessPoolExecutor(arguments.workers) as pool:
        for part in pool.map(chunk_of, *jobs) if arguments.workers > 1 else map(chunk_of, *jobs):
            parts = [summed([*parts, part])]
            bar.advance(part["answers"])
            write(arguments.out, facts_of(parts[0], arguments.seed, arguments.answers, []))
    lengths = timings()
    facts = facts_of(parts[0], arguments.seed, arguments.answers, lengths)
    print(table([{key: facts[key] for key in list(facts)[6:15]}]))
    print(table(lengths))
    print("Seconds of CPU by length; a doubling that takes 2 times as long is linear.")
    print(json.dumps(facts))
    write(arguments.out, facts)


def write(out: Path | None, facts: dict[str, object]) -> None:
    if out:
        write_bytes_atomic(out, (json.dumps(facts, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
