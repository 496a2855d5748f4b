"""What the tab "Your photo" asks for: photos are taken in, rid of metadata, and guessed by the game's model."""

import asyncio
import json
import math
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from geospot.answer import parse_answer
from geospot.asking.guesser import Guess, Guesser
from geospot.asking.photos import Photo, PhotoError, clean
from geospot.asking.prior import Prior
from geospot.config import PriorConfig
from geospot.earth.distance import MAX_DISTANCE_KM, haversine_km
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.earth.spot import name_points
from geospot.pictures.scaling import thumbnail
from geospot.report.guess_files import FORMATS
from geospot.report.live.opponent import Opponent, guess_json
from geospot.report.live.playing import largest_cities
from geospot.report.live.site import Json, page_html, read_body, read_json
from geospot.report.live.watching import land_json

SCRIPTS = ("views.js", "intake.js", "photo.js")
MOST_UPLOAD = 64_000_000  # bytes of a photo; the limits of its pixels are those of pictures.reading
MOST_PHOTOS = 50  # that wait for the model at once, and that one visitor is shown
MOST_KEPT, MOST_KEPT_BYTES = 500, 400_000_000  # of all visitors; the oldest go first
UPLOAD_S = 180.0  # that a photo may take to arrive
AT_ONCE = 2  # photos that are decoded side by side: each may need a gigabyte for a moment
SIDE = 1600  # pixels that a photo's longer side has at most on the page
MOST_NAME, MOST_TEXT, MOST_TEXTS = 120, 2000, 16
EXPORTS = {"geojson": "application/geo+json", "kml": "application/vnd.google-earth.kml+xml", "csv": "text/csv"}


@dataclass
class Shown:
    """A photo that was taken in: what the model sees of it, what the page shows, what is known, and the guess."""

    photo: Photo
    picture: bytes  # small, for the page
    own: dict[str, Any] | None  # where its file says that it was taken
    prior: Prior | None
    guess: Future[Guess]

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.photo.picture) + len(self.picture)


class Photos:
    """The photos of all visitors, each under a name that only who brought it knows."""

    def __init__(
        self,
        opponent: Opponent | None,
        max_pixels: int | None,
        *,
        remark: str = "",
        sent_to: str = "",
        tiles: dict[str, str] | None = None,
    ) -> None:
        """`max_pixels`: to which the model's pictures are scaled down; `remark`: what to say of the model; `sent_to`:
        who is sent the photos, where that is not this machine."""
        self.opponent, self.max_pixels, self.tiles = opponent, max_pixels, tiles
        self.about = {"remark": remark, "sent_to": sent_to}
        self.shown: OrderedDict[str, Shown] = OrderedDict()
        self._door = asyncio.Semaphore(AT_ONCE)

    # --- handlers ---

    async def page(self, request: Request) -> Response:
        """The page."""
        about = self.about | {
            "land": land_json(), "cities": await run_in_threadpool(largest_cities), "tiles": self.tiles,
            "model": self.opponent and self.opponent.title, "countries": await run_in_threadpool(country_names),
            "most": MOST_PHOTOS, "most_bytes": MOST_UPLOAD,
        }  # fmt: skip
        return HTMLResponse(page_html("Your photo: geospot play", SCRIPTS, json.dumps(about)))

    async def known(self, request: Request) -> Response:
        """What is known of a place, as it was understood, or why it was not."""
        try:
            prior = await run_in_threadpool(read_prior, request.query_params)
        except HTTPException as refusal:
            return Json({"refused": refusal.detail})
        within = prior.within_km if prior and prior.near else None
        return Json({"words": prior.words if prior else "", "near": prior and prior.near, "within": within})

    async def add(self, request: Request) -> Response:
        """Take in a photo, the body; `name` and what is known of it are in the query."""
        name = shown_name(request.query_params.get("name", ""))
        prior = await run_in_threadpool(read_prior, request.query_params)
        opponent = self._model()
        if sum(not one.guess.done() for one in self.shown.values()) >= MOST_PHOTOS:
            raise HTTPException(429, f"{MOST_PHOTOS} photos wait for the model already; try again when some are done")
        try:
            async with asyncio.timeout(UPLOAD_S):
                data = await read_body(request, MOST_UPLOAD)
        except TimeoutError:
            raise HTTPException(408, f"did not arrive within {UPLOAD_S:.0f} s") from None
        try:
            async with self._door:
                photo, picture, own = await run_in_threadpool(_taken_in, name, data, self.max_pixels)
        except PhotoError as error:  # the request was right: one of many photos may be broken
            return Json({"photo": None, "name": name, "state": "failed", "reason": f"It cannot be read: {error}."})
        token = secrets.token_urlsafe(12)
        self.shown[token] = Shown(photo, picture, own, prior, _asked(opponent, photo, prior))
        self._forget()
        return Json(self._state(token))

    async def again(self, request: Request) -> Response:
        """Ask once more about a photo, with what is known of it by now."""
        wanted = await read_json(request)
        one = self._one(wanted.get("photo"))
        texts = {name: value for name in ("country", "near", "within") if isinstance(value := wanted.get(name), str)}
        prior = await run_in_threadpool(read_prior, texts)
        if one.guess.done():
            one.prior, one.guess = prior, _asked(self._model(), one.photo, prior)
        return Json(self._state(wanted["photo"]))

    async def remove(self, request: Request) -> Response:
        """Forget a photo."""
        if (one := self.shown.pop(str((await read_json(request)).get("photo")), None)) is not None:
            one.guess.cancel()
        return Json({})

    async def states(self, request: Request) -> Response:
        """How the photos that are named stand; those that are not there any more are left out."""
        tokens = [token for token in request.query_params.getlist("photo") if token in self.shown]
        return Json([self._state(token) for token in tokens])

    async def picture(self, request: Request) -> Response:
        """A photo, encoded anew: without whatever its file said beside its pixels."""
        return Response(self._one(request.path_params["token"]).picture, media_type="image/jpeg")

    async def export(self, request: Request) -> Response:
        """The guesses for the photos that are named, as a file."""
        kind = request.query_params.get("format", "")
        if kind not in EXPORTS:
            raise HTTPException(422, f"format: must be one of {', '.join(EXPORTS)}")
        futures = [self._one(token).guess for token in request.query_params.getlist("photo")]
        guesses = [one.result() for one in futures if one.done() and one.exception() is None]
        if not guesses:
            raise HTTPException(404, "none of these photos has an answer yet")
        text = await run_in_threadpool(FORMATS[kind], guesses)
        name = {"Content-Disposition": f'attachment; filename="geospot-guesses.{kind}"'}
        return Response(text.encode("utf-8", "replace"), media_type=EXPORTS[kind], headers=name)

    # --- inside ---

    def _model(self) -> Opponent:
        if self.opponent is None:
            raise HTTPException(409, "there is no model that could guess")
        return self.opponent

    def _one(self, token: object) -> Shown:
        one = self.shown.get(token) if isinstance(token, str) else None
        if one is None:
            raise HTTPException(
                404, "this photo is not here any more: the server was started again, or it was long ago"
            )
        return one

    def _forget(self) -> None:
        """Drop the oldest photos beyond what is kept; one that waits for its answer stays."""
        size = sum(one.size for one in self.shown.values())
        for token, one in list(self.shown.items()):
            if len(self.shown) <= MOST_KEPT and size <= MOST_KEPT_BYTES:
                return
            if one.guess.done():
                size -= one.size
                del self.shown[token]

    def _state(self, token: str) -> dict[str, Any]:
        one = self.shown[token]
        found: dict[str, Any] = {
            "photo": token, "name": one.photo.name, "own": one.own, "tells": one.photo.tells,
            "known": one.prior.words if one.prior else "", "before": 0, "guess": None, "reason": "",
        }  # fmt: skip
        if not one.guess.done():
            waiting = [other.guess for other in self.shown.values() if not other.guess.done()]
            found["before"] = next(i for i, other in enumerate(waiting) if other is one.guess)
            started = one.guess.running()
            loading = self.opponent is not None and not self.opponent.opened
            return found | {"state": "loading" if started and loading else "asking" if started else "waiting"}
        if one.guess.cancelled() or (error := one.guess.exception()) is not None:
            return found | {"state": "failed", "reason": "" if one.guess.cancelled() else str(error)}
        return found | {"state": "done", "guess": photo_json(one.guess.result(), one.own)}

    def routes(self) -> list[Route]:
        """Of the application."""
        return [
            Route("/photo", self.page),
            Route("/api/photo/known", self.known),
            Route("/api/photo", self.add, methods=["POST"]),
            Route("/api/photo/again", self.again, methods=["POST"]),
            Route("/api/photo/remove", self.remove, methods=["POST"]),
            Route("/api/photo/picture/{token}", self.picture),
            Route("/api/photos", self.states),
            Route("/api/photos/export", self.export),
        ]


def _taken_in(name: str, data: bytes, max_pixels: int | None) -> tuple[Photo, bytes, dict[str, Any] | None]:
    """The photo for the model, a small one for the page, and where its own file says that it was taken."""
    photo = clean(name, data, max_pixels)
    own = None
    if photo.gps is not None:
        (named,) = name_points([Place(*photo.gps)])
        own = {"lat": photo.gps[0], "lon": photo.gps[1], "place": str(named.spot)}
    return photo, thumbnail(data, SIDE, 88), own


def _asked(opponent: Opponent, photo: Photo, prior: Prior | None) -> Future[Guess]:
    return opponent.submit(partial(_guess, photo, prior, opponent.samples))


def _guess(photo: Photo, prior: Prior | None, samples: int, guesser: Guesser) -> Guess:
    return next(iter(guesser.guess([photo], samples=samples, prior=prior, total=1)))


def photo_json(guess: Guess, own: Mapping[str, Any] | None) -> dict[str, Any]:
    """The guess for a photo as the page shows it; `own_km`: how far it is from the photo's own position."""
    own_km = None
    if own is not None and guess.lat is not None and guess.lon is not None:
        own_km = float(haversine_km(own["lat"], own["lon"], guess.lat, guess.lon))
    return guess_json(guess) | {
        "texts": [text[:MOST_TEXT] for text in guess.texts[:MOST_TEXTS]], "answers": len(guess.texts),
        "outside": guess.outside, "unread": _unread(guess), "own_km": own_km,
    }  # fmt: skip


def _unread(guess: Guess) -> int:
    """Answers in which no place could be read; those that lie elsewhere than what is known are failures, too."""
    return len(guess.failures) - (guess.outside if not guess.ok else 0)


@cache
def country_names() -> list[str]:
    """Of all countries, for a list to choose from."""
    countries = Gazetteer.load().countries
    return sorted(countries.name(code) for code in countries.codes)


def shown_name(text: str) -> str:
    """The name of a file, as text on a page and in an export: without folders, control characters and what is long."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text.replace("\\", "/").rpartition("/")[2])
    return plain.strip()[:MOST_NAME] or "photo"


def read_prior(query: QueryParams | Mapping[str, str]) -> Prior | None:
    """What a visitor says is known of a place: `country` (names or codes), `near` (coordinates) and `within` (km)."""
    country, near, within = (query.get(name, "").strip()[:200] for name in ("country", "near", "within"))
    names = tuple(filter(None, (name.strip() for name in country.split(","))))
    for name in names:
        if Gazetteer.load().country_code(name) is None:
            raise HTTPException(422, f"Country: {name} is none that is known here; write a name, or a code such as FR")
    if bool(near) != bool(within):
        raise HTTPException(422, "Near needs both: coordinates, and within how many kilometres of them")
    if not near:
        return Prior.of(PriorConfig(country=names))
    point, km = _point(near), _number(within)
    if point is None:
        raise HTTPException(422, f"Near: {near} are no coordinates; write them such as 48.85, 2.35")
    if not 0 < km <= MAX_DISTANCE_KM:
        raise HTTPException(422, f"Within: {within} must be a number of kilometres from 0 to {MAX_DISTANCE_KM:,.0f}")
    return Prior.of(PriorConfig(country=names, near=point, within=km))


def _point(text: str) -> tuple[float, float] | None:
    """Coordinates as people write them: two plain numbers, or whatever an answer of a model may say."""
    if plain := re.fullmatch(r"([+-]?\d+(?:\.\d+)?)[\s,;]+([+-]?\d+(?:\.\d+)?)", text):
        text = f"Latitude: {plain[1]}\nLongitude: {plain[2]}"
    found = parse_answer(text)
    return (found.lat, found.lon) if found.lat is not None and found.lon is not None else None


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return math.nan
