"""What the page of `geospot play` asks for: games, the pictures of their rounds, guesses, what the model says."""

import json
from collections import OrderedDict
from functools import cache
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from geospot.earth.gazetteer import Gazetteer
from geospot.pictures.scaling import thumbnail
from geospot.report.live.deck import Deck, new_code
from geospot.report.live.game import Game
from geospot.report.live.opponent import Opponent, against_json
from geospot.report.live.site import Json, page_html, read_json
from geospot.report.live.watching import land_json

SCRIPTS = ("views.js", "summary.js", "play.js")
MOST_GAMES = 1000  # kept; the one that was played least recently goes first
SIDE = 1600  # pixels that a picture's longer side has at most on the page
CITIES = 700  # whose names the map shows, the largest


class Play:
    """All games of a server, on one deck, against one model or none."""

    def __init__(
        self,
        deck: Deck,
        opponent: Opponent | None,
        *,
        code: str | None = None,
        seconds: int = 0,
        tiles: dict[str, str] | None = None,
    ) -> None:
        self.deck, self.opponent, self.code, self.seconds, self.tiles = deck, opponent, code, seconds, tiles
        self.games: OrderedDict[str, Game] = OrderedDict()

    async def page(self, request: Request) -> Response:
        """The page."""
        about = {
            "land": land_json(), "cities": await run_in_threadpool(largest_cities),
            "set": self.deck.name, "places": len(self.deck.samples),
            "levels": self.deck.levels, "model": self.opponent and self.opponent.title, "code": self.code,
            "seconds": self.seconds, "tiles": self.tiles,
        }  # fmt: skip
        return HTMLResponse(page_html("geospot play", SCRIPTS, json.dumps(about)))

    async def begin(self, request: Request) -> Response:
        """A new game."""
        wanted = await read_json(request)
        code, mode, level = wanted.get("code", self.code), None, None
        if code:
            code, mode, level = self.deck.unseal(str(code))
        seconds = wanted.get("seconds", self.seconds)
        if isinstance(seconds, bool) or not isinstance(seconds, int):
            raise HTTPException(422, "seconds: must be a whole number")
        mode, level = mode or wanted.get("mode", "five"), level or str(wanted.get("level", "any"))
        game = Game(self.deck, code or new_code(), mode, level, seconds)
        self.games[game.token] = game
        while len(self.games) > MOST_GAMES:
            self.games.popitem(last=False)
        return self._state(game)

    async def show(self, request: Request) -> Response:
        """A game as it stands, for a page that was loaded anew; null where it is not here any more."""
        game = self.games.get(request.query_params.get("game", ""))
        return Json(None) if game is None else self._state(game)

    async def next(self, request: Request) -> Response:
        """The next round."""
        game = self._game((await read_json(request)).get("game"))
        game.next()
        return self._state(game)

    async def guess(self, request: Request) -> Response:
        """A guess, and what it is worth."""
        wanted = await read_json(request)
        game = self._game(wanted.get("game"))
        lat, lon = (_degrees(wanted.get(name), name, most) for name, most in (("lat", 90), ("lon", 180)))
        await run_in_threadpool(game.guess, _whole(wanted.get("round")), lat, lon)
        return self._state(game)

    async def model(self, request: Request) -> Response:
        """What the model says of a round that has been guessed."""
        game = self._game(request.query_params.get("game"))
        sample = game.sample_of(_whole(request.query_params.get("round")))
        if self.opponent is None:
            return Json(None)
        guess = await run_in_threadpool(self.opponent.guess, sample)
        return Json(against_json(guess, sample, self.deck.decay_km))

    async def picture(self, request: Request) -> Response:
        """A picture of a round, encoded anew: whatever its file said beside its pixels is gone."""
        token = request.path_params["token"]
        found = next((p for game in self.games.values() if (p := game.picture(token)) is not None), None)
        if found is None:
            raise HTTPException(404, "no such picture")
        return Response(await run_in_threadpool(thumbnail, found, SIDE, 90), media_type="image/jpeg")

    def _game(self, token: object) -> Game:
        game = self.games.get(token) if isinstance(token, str) else None
        if game is None:
            raise HTTPException(404, "this game is over: the server was started again, or it was long ago")
        self.games.move_to_end(game.token)
        return game

    def _state(self, game: Game) -> Response:
        if self.opponent is not None:
            self.opponent.ask(game.ahead())
        return Json(game.state())

    def routes(self) -> list[Route]:
        """Of the application."""
        return [
            Route("/", self.page),
            Route("/api/begin", self.begin, methods=["POST"]),
            Route("/api/game", self.show),
            Route("/api/next", self.next, methods=["POST"]),
            Route("/api/guess", self.guess, methods=["POST"]),
            Route("/api/model", self.model),
            Route("/api/picture/{token}", self.picture),
        ]


@cache
def largest_cities() -> list[list[Any]]:
    """[name, lat, lon] of the cities that the map names, the largest first."""
    cities = Gazetteer.load().cities
    order = np.argsort(-cities.population, kind="stable")[:CITIES]
    return [[str(cities.name[i]), round(float(cities.lat[i]), 2), round(float(cities.lon[i]), 2)] for i in order]


def _degrees(value: object, name: str, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= most:  # NaN is not, either
        raise HTTPException(422, f"{name}: must be a number from -{most} to {most}")
    return float(value)


def _whole(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise HTTPException(422, "round: must be a whole number") from None
