"use strict";
// `geospot play`: five rounds, or countries in a row. What is true comes from the server once a guess is made.
const KEPT = "geospot-game", PINNED = "geospot-pin";
const RETRY_MS = 2000; // after which a model's answer that did not arrive is asked for once more

function Game() {
  const [game, setGame] = useState(null), [trouble, setTrouble] = useState(""), [busy, setBusy] = useState(false), [summing, setSumming] = useState(false);
  const past = game?.results[game.round - 1], began = useRef(0), round = game && `${game.game} ${game.round}`;
  const models = useModels(game), [pin, setPin] = usePin(round);
  const taken = (found) => {
    sessionStorage.setItem(KEPT, found.game);
    began.current = performance.now();
    setGame(found);
    setTrouble("");
    return found;
  };
  const doing = async (work) => {
    setBusy(true);
    try { await work(); } catch (error) { setTrouble(error instanceof Refused ? error.message : "No connection to the game's server."); }
    setBusy(false);
  };
  useEffect(() => {
    const kept = sessionStorage.getItem(KEPT);
    if (kept) ask("/api/game", { game: kept }).then((found) => { if (found) taken(found); else sessionStorage.removeItem(KEPT); }, () => {});
  }, []);
  useEffect(() => { if (round && !past) document.querySelector(".pictures-box")?.focus(); }, [round]); // else the keyboard would begin at the top
  const begin = (wishes) => doing(async () => { taken(await tell("/api/begin", wishes)); setSumming(false); });
  const guess = (place) => doing(async () => taken(await tell("/api/guess", { game: game.game, round: game.round, lat: place?.lat ?? null, lon: place?.lon ?? null })));
  const next = () => doing(async () => { taken(await tell("/api/next", { game: game.game })); });
  const leave = () => { sessionStorage.removeItem(KEPT); setGame(null); setSumming(false); };
  const notice = trouble && html`<p class="notice" role="alert">${trouble}</p>`;
  if (!game) return html`<${Tabs} />${notice}<${Start} ...${{ begin, busy }} />`;
  if (summing) return html`<${Tabs} />${notice}<${Summary} ...${{ game, models, leave, begin }} />`;
  return html`${notice}<${Bar} ...${{ game, past, began, onTime: () => guess(pin), leave }} />
    <div class="duel"><${Pictures} tokens=${game.pictures} />
      <section class="answer" aria-label=${past ? "Result" : "Your guess"}>
        <${RoundMap} key=${round} ...${{ game, past, pin, setPin, model: models[game.round] }} />
        ${past ? html`<${Result} ...${{ game, past, model: models[game.round], next, busy, finish: () => setSumming(true) }} />`
          : html`<p class="hint" role="status">${pin ? `Your pin: ${degrees(pin.lat, pin.lon)}` : game.mode === "streak" ? "In which country? Click the map." : "Click the map where you think this is."}</p>
            <button type="button" class="main" disabled=${!pin || busy} onClick=${() => guess(pin)}>Guess</button>`}</section></div>`;
}

// What the model says of the rounds of a game that are over, by their numbers: each when it is there.
function useModels(game) {
  const [heard, setHeard] = useState({}), asked = useRef(new Set()), played = useRef();
  played.current = game?.game;
  const hear = async (token, number) => {
    const key = `${token} ${number}`;
    for (; !asked.current.has(key) && played.current === token; await pause(RETRY_MS)) {
      asked.current.add(key);
      const found = await ask("/api/model", { game: token, round: number }).catch((error) => (
        error instanceof Refused ? { failed: true, ok: false, points: 0, words: "", candidates: [], reason: error.message } : null));
      if (found) setHeard((old) => ({ ...old, [key]: found }));
      else asked.current.delete(key); // the connection, and not the model
    }
  };
  useEffect(() => { if (PAGE.model) game?.results.forEach((_, i) => hear(game.game, i + 1)); }, [game?.results.length, game?.game]);
  return Object.fromEntries((game?.results || []).map((_, i) => [i + 1, heard[`${game.game} ${i + 1}`]]).filter(([, found]) => found));
}

// The pin of a round, and no other's; a page that is loaded anew still has it.
function usePin(round) {
  const [kept, keep] = useState(() => JSON.parse(sessionStorage.getItem(PINNED) || "null"));
  const put = (place) => { const pin = { ...place, round }; sessionStorage.setItem(PINNED, JSON.stringify(pin)); keep(pin); };
  return [kept?.round === round ? kept : null, put];
}

function Start({ begin, busy }) {
  const [wishes, change] = useReducer((old, values) => ({ ...old, ...values }), { mode: "five", seconds: PAGE.seconds, level: "any", code: PAGE.code || "" });
  const submit = (event) => { event.preventDefault(); begin({ ...wishes, code: wishes.code.trim() || null }); };
  const friends = wishes.code.replace(/[\s-]/g, "").length > 5;
  return html`<header class="start"><p class="kicker">geospot play</p><h1>Where on Earth was this taken?</h1>
    <p class="lead">${PAGE.model ? html`Guess five places, against <b>${PAGE.model}</b>.` : "Guess five places, and send your friends the code to play the same ones."}</p></header>
    <form class="wishes" onSubmit=${submit}>
      <label>Game <select disabled=${friends} value=${wishes.mode} onChange=${(e) => change({ mode: e.target.value })}><option value="five">five places</option><option value="streak">countries in a row</option></select></label>
      <label>Time per place <select value=${wishes.seconds} onChange=${(e) => change({ seconds: Number(e.target.value) })}>
        ${[...new Set([0, 20, 60, 120, PAGE.seconds])].sort((a, b) => a - b).map((s) => html`<option value=${s}>${s ? `${s} seconds` : "as long as you like"}</option>`)}</select></label>
      ${PAGE.levels.length > 1 && html`<label>Difficulty <select disabled=${friends} value=${wishes.level} onChange=${(e) => change({ level: e.target.value })}>
        ${PAGE.levels.map((level) => html`<option value=${level}>${level}${level === "any" ? "" : " for the model"}</option>`)}</select></label>`}
      <label>Code of a friend <input type="text" value=${wishes.code} maxlength="12" aria-describedby="code-about" autocomplete="off" spellcheck="false" placeholder="none" onInput=${(e) => change({ code: e.target.value })} /></label>
      <button type="submit" class="main" disabled=${busy}>Play</button>
      ${friends && html`<p class="muted" id="code-about" role="status">The code says which game, and how difficult.</p>`}</form>
    <p class="muted">${PAGE.places.toLocaleString("en")} places of “${PAGE.set}”.</p>`;
}

function Bar({ game, past, began, onTime, leave }) {
  const [, tick] = useReducer((n) => n + 1, 0), done = useRef(-1);
  const left = game.seconds_left === null || past ? null : Math.max(0, game.seconds_left - (performance.now() - began.current) / 1000);
  useEffect(() => {
    if (left === null) return undefined;
    const timer = setInterval(tick, 250);
    return () => clearInterval(timer);
  }, [left === null]);
  useEffect(() => { if (left === 0 && done.current !== game.round) { done.current = game.round; onTime(); } });
  const streak = game.results.filter((one) => one.right).length;
  return html`<header class="bar"><p><b>${game.mode === "streak" ? `Country ${game.round}` : `Round ${game.round} of ${game.length}`}</b></p>
    <p>${game.mode === "streak" ? html`<b>${streak}</b> in a row` : html`<b>${totalOf(game.results).toLocaleString("en")}</b> points`}</p>
    ${left !== null && html`<p class=${left < 6 ? "hurry" : ""} role="timer"><b>${Math.ceil(left)}</b> s left</p>`}
    <p class="muted">code <b>${game.code}</b></p><button type="button" onClick=${leave}>leave</button></header>`;
}

function RoundMap({ game, past, pin, setPin, model }) {
  const mine = past ? past.guess : pin, marks = [], lines = [];
  if (past) {
    const { truth } = past;
    if (model?.ok) { marks.push({ lat: model.lat, lon: model.lon, kind: "model" }); lines.push([truth.lat, truth.lon, model.lat, model.lon, "place"]); }
    if (mine) lines.push([truth.lat, truth.lon, mine.lat, mine.lon, "first"]);
    marks.push({ lat: truth.lat, lon: truth.lon, kind: "truth" });
  }
  const label = past ? "World map with the true place and the guesses" : "World map: click, or press Enter for the middle of the map, to place your pin. Arrow keys move, plus and minus zoom.";
  return html`<${GuessMap} ...${{ pin: mine, onPin: past ? null : setPin, marks, lines, circles: past ? claimed(model) : [], label }} />
    ${past && html`<ul class="legend"><li><i class="ring"></i>true place</li>${mine && html`<li><i class="dot first"></i>you</li>`}${model?.ok && html`<li><i class="dot place"></i>the model</li>`}</ul>`}`;
}

function Result({ game, past, model, next, finish, busy }) {
  const heading = useRef();
  useEffect(() => heading.current?.focus(), [past]);
  const verdict = game.mode === "streak" ? (past.right ? `${past.country}: right!` : `It was ${past.country}${past.guessed_country ? `, not ${past.guessed_country}` : ""}.`)
    : past.km === null ? "No guess in time" : `${km(past.km)} km away`;
  return html`<div class="result"><h2 tabindex="-1" ref=${heading}>${verdict}</h2>
    ${game.mode === "five" && html`<p class="points"><b>${past.points.toLocaleString("en")}</b> of 5,000 points</p><progress max="5000" value=${past.points} aria-label="Points of this round"></progress>`}
    <p class="muted">${past.truth.place} · ${degrees(past.truth.lat, past.truth.lon)}</p>
    ${PAGE.model && html`<${Rival} ...${{ game, past, model }} />`}
    <button type="button" class="main" disabled=${busy} onClick=${game.ended ? finish : next}>${game.ended ? "Summary" : "Next place"}</button></div>`;
}

function Rival({ past, model }) {
  if (model === undefined) return html`<p class="rival muted" role="status">The model is still thinking …</p>`;
  if (model.failed) return html`<div class="rival"><h3>The model could not be asked</h3><p class="muted">${model.reason}</p></div>`;
  if (!model?.ok) return html`<div class="rival"><h3>The model named no place</h3>${model?.reason && html`<p class="muted">${model.reason}</p>`}</div>`;
  const won = past.km !== null && past.km <= model.km;
  return html`<div class="rival"><h3>${won ? "Nearer than the model: " : "The model: "}${km(model.km)} km, ${model.points.toLocaleString("en")} points</h3>
    <p class="muted">${sureness(model, "places")}</p>
    <ol>${model.candidates.map((one) => html`<li><b>${Math.round(100 * one.share)} %</b> <bdi>${one.title}</bdi></li>`)}</ol>
    <details><summary>Its words</summary><pre>${model.words}</pre></details></div>`;
}

function Summary({ game, models, leave, begin }) {
  const total = totalOf(game.results), shown = useRef(), heading = useRef();
  const streak = game.results.filter((one) => one.right).length;
  const title = game.mode === "streak" ? `${streak} ${streak === 1 ? "country" : "countries"} in a row` : `${total.toLocaleString("en")} of ${(5000 * game.length).toLocaleString("en")} points`;
  const draw = () => { if (shown.current) { const card = drawSummary(game, models); card.setAttribute("role", "img"); card.setAttribute("aria-label", `World map of the ${game.results.length} rounds: ${title}`); shown.current.replaceChildren(card); } };
  useEffect(draw, [game, Object.keys(models).length]);
  useEffect(() => heading.current?.focus(), []);
  useRedraw(draw);
  const rival = PAGE.model && game.mode === "five", columns = PAGE.model ? ["You", "Model"] : ["You"];
  return html`<header class="start"><p class="kicker">geospot play · code ${game.code}</p><h1 tabindex="-1" ref=${heading}>${title}</h1>
    ${rival && html`<p class="lead" role="status">${duelWords(game, models)}</p>`}</header>
    <div class="card-shown" ref=${shown}></div>
    <p class="actions"><button type="button" class="main" onClick=${() => saveSummary(game, models)}>Save this picture</button>
      <button type="button" onClick=${() => begin({ mode: game.mode, seconds: game.seconds, level: game.level })}>Play again</button><button type="button" onClick=${leave}>Other game</button></p>
    <div class="scroll" tabindex="0"><table class="rounds"><thead><tr><th scope="col">Place</th>${columns.map((name) => html`<th scope="col">${name}</th>`)}<th scope="col">${game.mode === "streak" ? "Your country" : "Points"}</th></tr></thead><tbody>
      ${game.results.map((one, i) => html`<tr><th scope="row">${one.truth.place}</th><td>${one.km === null ? "no guess" : `${km(one.km)} km`}</td>
        ${PAGE.model && html`<td>${models[i + 1]?.ok ? `${km(models[i + 1].km)} km` : models[i + 1] ? "no place" : "thinking …"}</td>`}
        <td>${game.mode === "streak" ? (one.right ? `${one.guessed_country} ✓` : `${one.guessed_country || "none"} ✗`) : one.points.toLocaleString("en")}</td></tr>`)}</tbody></table></div>`;
}

function duelWords(game, models) {
  const total = totalOf(game.results), theirs = scoreOf(game, models), failed = Object.values(models).filter((one) => one.failed).length;
  if (failed) return `The model could not be asked about ${failed} of the ${game.length} places.`;
  if (theirs === null) return "The model is still thinking …";
  return `${total > theirs ? "You beat the model, which has" : total === theirs ? "As many as the model:" : "The model wins with"} ${theirs.toLocaleString("en")}.`;
}

render(html`<${Game} />`, document.getElementById("app"));
