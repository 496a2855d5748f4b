"use strict";
// The tab "Your photo": photos of one's own on the map, with the circle that the model claims.
const LINKS = [
  ["OpenStreetMap", (lat, lon) => `https://www.openstreetmap.org/?mlat=${lat}&mlon=${lon}#map=8/${lat}/${lon}`],
  ["Google Maps", (lat, lon) => `https://www.google.com/maps/search/?api=1&query=${lat},${lon}`],
];
const EXPORTS = [["geojson", "GeoJSON"], ["kml", "KML (Google Earth)"], ["csv", "CSV (table)"]];

const SMALL = 0.1; // a share of the answers that need not be in sight on the map at once

function PhotoPage() {
  const [, changed] = useReducer((n) => n + 1, 0), [over, setOver] = useState(false);
  const album = useMemo(() => new Album(changed), []);
  useEffect(() => { album.restore(); }, []);
  useIntake(album, setOver);
  const { photos } = album, photo = photos.find((one) => one.id === album.chosen);
  const done = photos.filter((one) => one.state === "done").length, failed = photos.filter((one) => one.state === "failed").length;
  return html`<${Tabs} />
    <header class=${photos.length ? "start slim" : "start"}><h1>Where was this photo taken?</h1>
      ${PAGE.model ? html`<p class="lead"><b>${PAGE.model}</b> says where, and how sure it is. ${PAGE.remark}</p>` : html`<p class="notice">There is no model here that could guess. Start <code>geospot demo</code>
        first, or name one: <code>geospot play model_name=…</code></p>`}</header>
    ${PAGE.model && html`<${Intake} ...${{ album, over }} />`}
    ${album.notice && html`<p class="notice" role="alert">${album.notice}</p>`}
    ${album.lost && html`<p class="notice" role="alert">The connection to the server is lost; this page tries again.</p>`}
    ${photos.length > 0 && html`<${Strip} album=${album} /><p class="muted tally" role="status">${tally(photos.length, done, failed)}</p>`}
    ${photo && html`<div class="duel"><section class="pictures-box" aria-label="The photo">
        ${photo.photo ? html`<${PictureView} key=${photo.photo} address=${`/api/photo/picture/${photo.photo}`} label=${photo.name} />` : html`<div class="picture-view empty"></div>`}</section>
      <section class="answer" aria-label="Where it was taken"><${PhotoMap} ...${{ album, photo }} /><${Answer} key=${photo.id} ...${{ album, photo }} /></section></div>`}
    ${done > 0 && html`<${Exports} photos=${photos} />`}`;
}

const tally = (n, done, failed) => `${done} of ${n} ${n === 1 ? "photo" : "photos"} answered${failed ? `, ${failed} could not be` : ""}.`;

function Intake({ album, over }) {
  const take = (event) => { album.add([...event.target.files]); event.target.value = ""; };
  return html`<section class=${`intake ${over ? "over" : ""} ${album.photos.length ? "slim" : ""}`} aria-label="Bring photos">
    <p class="bring"><label class="main choose"><input type="file" multiple accept="image/*,.heic,.heif,.avif,.tif,.tiff" onChange=${take} />Choose photos</label>
      <label class="choose camera"><input type="file" accept="image/*" capture="environment" onChange=${take} />Take a photo</label>
      <span>or drop them anywhere on this page, or paste one.</span></p>
    <p class="muted">${PAGE.sent_to ? `Photos are sent to ${PAGE.sent_to}, without what their files say of place, time and camera.`
      : "Photos go to the machine that this page came from and no farther. The model does not see what their files say of place, time and camera."}</p>
    <${Known} album=${album} /></section>`;
}

// What is known of a place; the server says how it has understood it.
function Known({ album }) {
  const { known } = album;
  const field = (name, label, about) => html`<label>${label} <input type="text" name=${name} value=${known[name]} autocomplete="off" spellcheck="false"
    aria-describedby="known-error" ...${about} onInput=${(event) => album.set({ known: { ...known, [name]: event.target.value } })} onChange=${() => album.check()} /></label>`;
  return html`<details class="known"><summary>${known.words && !known.error ? html`Known: taken <b>${known.words}</b>` : "Is something known of the place?"}</summary>
    <div class="fields">${field("country", "Country, or several", { list: "countries", placeholder: "France, BE" })}
      ${field("near", "Near, degrees (or click the map)", { placeholder: "48.85, 2.35" })}${field("within", "Within, km", { placeholder: "200", inputmode: "decimal" })}</div>
    <datalist id="countries">${PAGE.countries.map((name) => html`<option value=${name}></option>`)}</datalist>
    <p class="muted" id="known-error" role="status">${known.error || "Answers elsewhere are set aside. The model is not told."}</p></details>`;
}

const WORDS = { queued: "waits to be sent", sending: "is sent …", loading: "the model is loading …", asking: "the model looks at it …", failed: "no answer" };
function stateOf(photo) {
  if (photo.state === "waiting") return photo.before ? `waits, ${photo.before} before it` : "is next";
  return photo.state === "done" ? (photo.guess.ok ? photo.guess.candidates[0].title : "no place named") : WORDS[photo.state];
}

function Strip({ album }) {
  return html`<ul class="strip" aria-label="Your photos">${album.photos.map((one) => html`<li key=${one.id} class=${one.state}>
    <button type="button" aria-pressed=${one.id === album.chosen ? "true" : "false"} onClick=${() => album.set({ chosen: one.id })}>
      ${one.photo ? html`<img src=${`/api/photo/picture/${one.photo}`} alt="" />` : html`<i></i>`}<span><b dir="auto">${one.name}</b><small>${stateOf(one)}</small></span></button></li>`)}</ul>`;
}

function PhotoMap({ album, photo }) {
  const guess = photo.state === "done" ? photo.guess : null, marks = [], lines = [], { place } = album.known;
  (guess?.candidates || []).forEach((one, i) => marks.unshift({ lat: one.lat, lon: one.lon, kind: i ? "other" : "model", text: String(i + 1), size: 18 + 12 * Math.sqrt(one.share), aside: i > 0 && one.share < SMALL }));
  if (photo.own) {
    marks.push({ ...photo.own, kind: "truth" });
    if (guess?.ok) lines.push([photo.own.lat, photo.own.lon, guess.lat, guess.lon, "ink"]);
  }
  const circles = [...claimed(guess), ...(place ? [{ ...place, colour: "first", dashed: true }] : [])];
  const pin = (at) => { album.set({ known: { ...album.known, near: `${at.lat.toFixed(3)}, ${at.lon.toFixed(3)}`, within: album.known.within || "200" } }); album.check(); };
  return html`<${GuessMap} pin=${place} onPin=${pin} ...${{ marks, lines, circles }} label="World map with the places that the model names. Click, or press Enter for the middle of the map, where it is known to be near. Arrow keys move, plus and minus zoom." />`;
}

const Links = ({ lat, lon }) => LINKS.map(([name, address]) => html` · <a href=${address(lat.toFixed(5), lon.toFixed(5))} target="_blank" rel="noopener noreferrer">${name}</a>`);

function Answer({ album, photo }) {
  const heading = useRef(), { guess } = photo;
  const buttons = html`<p class="actions left">${photo.photo && !OPEN.has(photo.state) && html`<button type="button" onClick=${() => album.again(photo)}>Ask again${album.known.words ? " with what is known" : ""}</button>`}
    <button type="button" onClick=${() => album.remove(photo)}>Remove this photo</button></p>`;
  if (photo.state !== "done") return html`<div class="result"><h2>${photo.state === "failed" ? "No answer for this photo" : photo.name}</h2>
    <p role="status">${photo.state === "failed" ? photo.reason : stateOf(photo)}</p><${Own} photo=${photo} />${buttons}</div>`;
  return html`<div class="result"><h2 tabindex="-1" ref=${heading} dir="auto">${guess.ok ? guess.candidates[0].title : "The model named no place"}</h2>
    ${guess.ok ? html`<p>${degrees(guess.lat, guess.lon)}<${Links} ...${guess} /></p><p class="muted">${sureness(guess, "photos")}${guess.circles.length > 0 && guess.calibrated_on ? ` This holds for pictures like those of ${guess.calibrated_on}.` : ""}</p>`
      : html`<p>${guess.outside ? `All its answers (${guess.outside}) lie elsewhere than what is known.` : guess.reason}</p>`}
    <${Own} photo=${photo} />
    ${photo.known && html`<p class="muted">Known: taken ${photo.known}.${guess.ok && guess.outside ? ` ${guess.outside} of ${guess.answers} answers lie elsewhere and are set aside.` : ""}</p>`}
    <ol class="places">${guess.candidates.map((one, i) => html`<li><b>${Math.round(100 * one.share)} %</b><span><bdi>${one.title}</bdi>
      <small>${i > 0 && html`${degrees(one.lat, one.lon)}<${Links} ...${one} />`}${one.disagreement && html`<span>The model's words disagree: ${one.disagreement}.</span>`}</small></span></li>`)}</ol>
    ${guess.ok && html`<p class="muted">Shares of ${guess.answers} answers${guess.unread ? `; ${guess.unread} named no place that can be read` : ""}.</p>`}
    <details><summary>The model's words</summary>${guess.texts.map((text) => html`<pre>${text}</pre>`)}</details>${buttons}</div>`;
}

function Own({ photo }) {
  if (!photo.tells) return null;
  if (!photo.own) return html`<p class="notice">This photo's file names a position that cannot be read. Whoever is sent the file has it, too.</p>`;
  const off = photo.state === "done" && photo.guess.own_km !== null ? html` The guess is <b>${km(photo.guess.own_km)} km</b> from there.` : "";
  return html`<p class="notice">This photo's file says where it was taken: ${photo.own.place} (${degrees(photo.own.lat, photo.own.lon)}).${off} The model did not see that; whoever is sent the file does.</p>`;
}

function Exports({ photos }) {
  const query = photos.filter((one) => one.state === "done").map((one) => ["photo", one.photo]);
  return html`<p class="exports">Save ${query.length === 1 ? "the answer" : `all ${query.length} answers`}: ${EXPORTS.map(([kind, title]) =>
    html` <a href=${`/api/photos/export?${new URLSearchParams([["format", kind], ...query])}`} download>${title}</a>`)}</p>`;
}

render(html`<${PhotoPage} />`, document.getElementById("app"));
