"use strict";
// `geospot watch`: the answers of a step on the map, the curves of the run, and what was said about a picture.
const MOST_RUNS = 8;
const REPLAY_MS = 30_000; // what playing all steps takes, about
const PARTS = ["coordinate", "country", "region", "city", "format", "form"];

function App({ source }) {
  const [, redraw] = useReducer((n) => n + 1, 0);
  const [draws, recolour] = useReducer((n) => n + 1, 0);
  const store = useMemo(() => new Store(source, redraw), []);
  const [view, change] = useReducer((old, values) => ({ ...old, ...values }), {
    chosen: null, focus: null, split: "train", step: null, playing: false, by: "distance", tau: true, group: null,
  });
  useEffect(() => source.listen(store), []);
  useRedraw(recolour);
  const chosen = view.chosen ?? firstChoice(store.list), focus = chosen.includes(view.focus) ? view.focus : chosen[0];
  useEffect(() => { chosen.filter((id) => !store.runs.has(id)).forEach((id) => store.load(id)); }, [chosen.join("\n")]);
  const run = store.runs.get(focus), splits = Object.keys(run?.answers || {});
  const split = splits.includes(view.split) ? view.split : splits[0];
  const steps = store.steps(focus, split), last = steps[steps.length - 1];
  const step = view.step !== null && steps.length ? nearest(steps, view.step) : last;
  const frame = store.frame(focus, split, step);
  useEffect(() => { if (step !== undefined && !frame) store.fill(focus, split, step); }, [focus, split, step, run?.epoch, !frame]);
  usePlaying(view, change, steps, step);
  const common = commonFolder(chosen);
  const shown = chosen.map((id) => store.runs.get(id)).filter(Boolean).map((one) => ({ ...one, label: one.id.slice(common) }));
  const at = { store, run, split, steps, step, frame, view, change, focus, shown, draws };
  if (!store.list.length) return html`<${Empty} ...${{ store }} />`;
  return html`
    <${Head} ...${{ run: run || store.list.find((one) => one.id === focus), store, alone: source.alone }} />
    ${store.list.length > 1 && html`<${Runs} ...${{ store, chosen, focus, change }} />`}
    <div class="look"><section class="stage-box" aria-label="Answers on the map">
      <${Answers} ...${at} /><${Controls} ...${{ ...at, splits }} /></section>
      <aside class="side"><${Picture} ...${at} /></aside></div>
    <section aria-label="Curves"><div class="panels">${PAGE.panels.map((panel) => html`<${Panel} key=${panel.title}
      ...${{ panel, runs: shown, step: step ?? null, draws, onStep: (to) => change({ step: to, playing: false }) }} />`)}</div></section>
    <${About} ...${{ run }} />`;
}

const answered = (run) => run.command === "train" && run.rows > 0; // rather than its warm start

function firstChoice(list) {
  const running = list.filter((run) => run.state === "running").slice(0, 4);
  const best = running.length ? running : [...list].sort((a, b) => answered(b) - answered(a) || b.rows - a.rows).slice(0, 1);
  return best.map((run) => run.id);
}

// How long the beginning is that all names share, up to a slash.
function commonFolder(names) {
  const [first, ...rest] = names.length > 1 ? names : [""];
  const parts = first.split("/").slice(0, -1);
  while (parts.length && !rest.every((name) => name.startsWith(`${parts.join("/")}/`))) parts.pop();
  return parts.length ? parts.join("/").length + 1 : 0;
}

const nearest = (steps, wanted) => steps.reduce((best, step) => (Math.abs(step - wanted) < Math.abs(best - wanted) ? step : best));

function usePlaying(view, change, steps, step) {
  useEffect(() => {
    if (!view.playing || step === undefined) return undefined;
    const i = steps.indexOf(step), pause = Math.min(900, Math.max(70, REPLAY_MS / steps.length));
    const timer = setTimeout(() => change(i + 1 < steps.length ? { step: steps[i + 1] } : { playing: false, step: null }), pause);
    return () => clearTimeout(timer);
  }, [view.playing, step]);
}

const Empty = ({ store }) => html`<header><p class="kicker">geospot watch</p><h1>${store.error ? "No connection" : "No run yet"}</h1>
  <p class="muted" role="status">${store.error || `Nothing has been trained in ${PAGE.root || "this folder"} so far; this page shows a run as soon as there is one.`}</p></header>`;

function Head({ run, store, alone }) {
  if (!run) return null;
  const share = run.max_steps ? Math.min(1, run.steps / run.max_steps) : 0;
  const left = run.state === "running" && run.seconds_left ? `about ${duration(run.seconds_left)} left` : "";
  return html`<header class="top"><div><p class="kicker">geospot ${alone ? "replay" : "watch"} · ${run.command} · ${run.model}</p><h1>${run.id}</h1></div>
    <div class="progress"><p><span class=${`state ${run.state.replace(" ", "-")}`}>${run.state}</span>
      step <b>${run.steps.toLocaleString("en")}</b>${run.max_steps ? ` of ${run.max_steps.toLocaleString("en")}` : ""} <span class="muted">${left}</span></p>
      <progress max="1" value=${share} aria-label="Share of the run that is done"></progress>
      <p class="muted" role="status">${store.connected ? store.error : "The connection is lost; trying again …"}</p></div></header>`;
}

function Runs({ store, chosen, focus, change }) {
  const toggle = (id) => change({ chosen: chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id] });
  return html`<fieldset class="runs"><legend>Runs</legend>${store.list.map((run) => {
    const i = chosen.indexOf(run.id);
    return html`<div class=${`run ${i >= 0 ? "on" : ""}`} key=${run.id}><label><input type="checkbox" checked=${i >= 0}
      disabled=${i >= 0 ? chosen.length === 1 : chosen.length >= MOST_RUNS} title=${i < 0 && chosen.length >= MOST_RUNS ? `At most ${MOST_RUNS} at once` : undefined} onChange=${() => toggle(run.id)} /><i class="swatch" style=${i >= 0 ? { background: `var(--${COLOURS[i % COLOURS.length]})` } : {}}></i>${run.id}
      <small>${run.state === "running" ? `${run.steps} of ${run.max_steps ?? "?"}` : run.state}</small></label>
      ${i >= 0 && chosen.length > 1 && html`<button type="button" aria-pressed=${run.id === focus} onClick=${() => change({ focus: run.id, group: null })}>map</button>`}</div>`;
  })}</fieldset>`;
}

function Answers({ store, run, split, step, frame, view, change, focus, shown, draws }) {
  const element = useRef(), world = useRef(), now = useRef({}), tip = useRef();
  now.current = { store, run, split, step, frame, view, change, focus, shown };
  useEffect(() => {
    const made = makeWorld(element.current, PAGE.land, { label: "World map: each true place joined to the answers about it. Arrow keys move the map, plus and minus zoom." });
    made.dots = made.layer((ctx, x, y) => paintAll(ctx, x, y, now.current));
    tip.current = L.tooltip({ direction: "top", offset: [0, -6], className: "tip-card" });
    made.map.on("mousemove", (event) => point(made.map, event, now.current, tip.current));
    made.map.on("mouseout", () => tip.current.remove());
    made.map.on("click", (event) => now.current.change({ group: under(made.map, event, now.current.frame)?.group ?? null }));
    world.current = made;
    const sized = new ResizeObserver(() => made.fit());
    sized.observe(element.current);
    return () => { sized.disconnect(); made.map.remove(); };
  }, []);
  useEffect(() => world.current.dots.again(), [frame, view.by, view.tau, view.group, focus, chosenOf(shown), store.kept]);
  useEffect(() => world.current.again(), [draws]);
  return html`<div class="world" ref=${element}></div>`;
}

function paintAll(ctx, x, y, { store, run, split, step, frame, view, focus, shown }) {
  if (view.by === "run" && shown.length > 1) {
    shown.forEach((other, i) => {
      const steps = store.steps(other.id, split), theirs = steps.length && store.frame(other.id, split, nearest(steps, step));
      if (theirs) paintFrame(ctx, x, y, theirs, { by: "run", plain: colour(COLOURS[i % COLOURS.length]), tau: 0, only: other.id === focus ? view.group : null });
      else if (steps.length) store.fill(other.id, split, nearest(steps, step));
    });
  } else if (frame) {
    paintFrame(ctx, x, y, frame, { by: view.by, plain: colour("s0"), tau: view.tau && split === "train" ? tauAt(run, step) : 0, only: view.group });
  }
}

const chosenOf = (shown) => shown.map((one) => one.id).join("\n");
const tauAt = (run, step) => run.metrics.find((row) => row.step === step)?.tau_km;

function under(map, event, frame) {
  let best = null, least = 14;
  for (const picture of frame?.pictures || []) {
    const away = map.latLngToContainerPoint([picture.lat, picture.lon]).distanceTo(event.containerPoint);
    if (away < least) [best, least] = [picture, away];
  }
  return best;
}

function point(map, event, { frame }, tip) {
  const picture = under(map, event, frame);
  map.getContainer().style.cursor = picture ? "pointer" : "";
  if (!picture) { tip.remove(); return; }
  const text = document.createElement("span"), n = picture.end - picture.begin;
  text.textContent = `${n > 1 ? `${n} answers, median ` : ""}${km(medianKm(frame, picture.begin, picture.end))} km from the true place`;
  tip.setLatLng([picture.lat, picture.lon]).setContent(text).addTo(map);
}

function Controls({ run, split, splits, steps, step, frame, view, change, shown }) {
  const i = Math.max(0, steps.indexOf(step)), row = run?.metrics.find((one) => one.step === step);
  const to = (index) => change({ step: index >= steps.length - 1 ? null : steps[index], playing: false });
  const ways = [["distance", "distance"], ["reward", "reward"], ...(shown.length > 1 ? [["run", "run"]] : [])];
  const play = () => change(view.playing ? { playing: false } : { playing: true, step: i + 1 >= steps.length ? steps[0] : step });
  return html`<div class="controls">
    <button type="button" class="play" onClick=${play} aria-label=${view.playing ? "Pause" : "Play the steps"}>${view.playing ? "❚❚" : "▶"}</button>
    <input class="slider" type="range" min="0" max=${Math.max(0, steps.length - 1)} value=${i} aria-label="Step" aria-valuetext=${`step ${step ?? "none"}`}
      onInput=${(event) => to(Number(event.target.value))} />
    <output class="at">step <b>${step ?? MISSING}</b></output>
    <div class="choices">
      <label>answers <select value=${split} onChange=${(event) => change({ split: event.target.value, group: null })}>
        ${splits.map((name) => html`<option value=${name}>${name === "train" ? "in training" : `${name} (held-out)`}</option>`)}</select></label>
      <label>colour <select value=${view.by} onChange=${(event) => change({ by: event.target.value })}>
        ${ways.map(([value, name]) => html`<option value=${value}>${name}</option>`)}</select></label>
      <label><input type="checkbox" checked=${view.tau} onChange=${() => change({ tau: !view.tau })} /> tau ring</label>
      ${view.step !== null && html`<button type="button" onClick=${() => change({ step: null, playing: false })}>newest step</button>`}</div>
    <p class="says muted">${frame ? `${frame.n.toLocaleString("en")} answers to ${frame.pictures.length.toLocaleString("en")} pictures, median ${km(medianKm(frame))} km.` : steps.length ? "Reading the answers …" : run ? "No answers have been logged." : "Reading the run …"}
      ${split === "train" && row?.tau_km ? ` Tau ${short(row.tau_km)} km${typeof row.coord_weight === "number" ? `; coordinates weigh ${short(row.coord_weight)}` : ""}.` : ""}</p>
    <${Legend} by=${view.by} /></div>`;
}

function Legend({ by }) {
  if (by === "run") return null;
  const entries = by === "reward" ? ["0", "", "", "½", "", "", "1"].map((name, i) => [`c${i}`, name]) : DISTANCE_NAMES.map((name, i) => [`d${i}`, name]);
  return html`<ul class=${`legend ${by}`}><li><i class="ring"></i>true place</li>
    ${entries.map(([name, text]) => html`<li class=${name}><i class="dot"></i>${text}</li>`)}</ul>`;
}

function Picture({ store, split, step, frame, view, change, focus }) {
  const [found, setFound] = useState(null), group = view.group;
  const there = frame?.pictures.some((one) => one.group === group);
  useEffect(() => {
    let current = true;
    if (group === null || !there) { setFound(null); return undefined; }
    store.source.picture(focus, split, step, group).then((one) => current && setFound(one), (error) => current && setFound({ error: error.message }));
    return () => { current = false; };
  }, [focus, split, step, group, there]);
  const pictures = frame?.pictures || [];
  return html`<div class="pick"><label>Picture <select value=${group ?? ""} onChange=${(event) => change({ group: event.target.value === "" ? null : Number(event.target.value), playing: false })}>
      <option value="">all ${pictures.length}</option>${pictures.map((one) => html`<option value=${one.group}>${one.group + 1}: median ${km(medianKm(frame, one.begin, one.end))} km</option>`)}</select></label></div>
    ${found?.error ? html`<p class="muted">${found.error}</p>` : found ? html`<${Said} ...${{ found }} />`
      : html`<p class="muted">Choose a picture here, or a true place on the map, to read the answers about it.</p>`}`;
}

function Said({ found }) {
  const answers = [...found.answers].sort((a, b) => (b.reward ?? 0) - (a.reward ?? 0) || (a.distance_km ?? 1e9) - (b.distance_km ?? 1e9));
  return html`<h2 class="where">${found.truth.place || degrees(found.truth.lat, found.truth.lon)}</h2>
    <p class="muted">${degrees(found.truth.lat, found.truth.lon)} · ${found.key}</p>
    <ol class="said">${answers.map((one) => html`<li>
      <p class="sum"><b class=${`distance d${one.distance_km === null ? 4 : distanceClass(one.distance_km)}`}>${one.distance_km === null ? "failed" : `${km(one.distance_km)} km`}</b>
        ${one.reward !== null && html`<span>reward <b>${short(one.reward)}</b></span>`}
        ${one.advantage !== null && html`<span class=${one.advantage < 0 ? "less" : "more"}>advantage <b>${one.advantage > 0 ? "+" : ""}${short(one.advantage)}</b></span>`}</p>
      <pre>${one.text}</pre>${one.error && html`<p class="muted">${one.error}</p>`}
      ${Object.keys(one.parts).length > 0 && html`<p class="parts">${[...PARTS, ...Object.keys(one.parts).filter((name) => !PARTS.includes(name))].filter((name) => typeof one.parts[name] === "number")
        .map((name) => html`<span title=${`${name}: ${short(one.parts[name])}`}>${name} <meter min="0" max="1" value=${one.parts[name]}></meter> ${short(one.parts[name])}</span>`)}</p>`}</li>`)}</ol>`;
}

const About = ({ run }) => run && html`<details class="about"><summary>What this run is</summary><div class="scroll" tabindex="0">
  <table class="pairs">${Object.entries(run.about).map(([name, value]) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`)}</table></div></details>`;

(async () => {
  const packed = document.getElementById("replay");
  const source = packed ? { ...(await standalone(packed.textContent)), alone: true } : SERVER;
  render(html`<${App} source=${source} />`, document.getElementById("app"));
})();
