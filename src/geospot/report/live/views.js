"use strict";
// What a round shows: the pictures of a place, to zoom and turn between, and the map to click.

// The pages of `geospot play`.
const Tabs = () => html`<nav class="site" aria-label="Pages">${[["/", "Play"], ["/photo", "Your photo"]].map(([path, title]) =>
  html`<a href=${path} aria-current=${location.pathname === path ? "page" : undefined}>${title}</a>`)}</nav>`;

// One picture by Leaflet: wheel, pinch, drag, double click, arrow keys, plus and minus.
function PictureView({ address, label }) {
  const element = useRef();
  useEffect(() => {
    const map = L.map(element.current, { crs: L.CRS.Simple, zoomSnap: 0, zoomDelta: 0.75, wheelPxPerZoomLevel: 100, attributionControl: false,
      minZoom: -6, maxZoom: 8, maxBoundsViscosity: 1 });
    element.current.setAttribute("role", "application");
    element.current.setAttribute("aria-label", `${label}. Arrow keys move, plus and minus zoom.`);
    map.setView([0, 0], 0);
    const image = new Image(), sized = new ResizeObserver(() => show());
    const show = () => {
      if (!image.naturalWidth || !element.current?.clientHeight) return;
      const bounds = [[0, 0], [image.naturalHeight, image.naturalWidth]];
      map.invalidateSize({ animate: false });
      map.setMaxBounds(null).setMinZoom(-6).setMaxZoom(8).fitBounds(bounds, { animate: false }); // whatever fitted before
      map.setMinZoom(map.getZoom()).setMaxZoom(map.getZoom() + 5).setMaxBounds(bounds);
    };
    image.onload = () => {
      L.imageOverlay(image.src, [[0, 0], [image.naturalHeight, image.naturalWidth]], { alt: label }).addTo(map);
      element.current?.setAttribute("data-loaded", "true");
      show();
    };
    image.src = address;
    sized.observe(element.current);
    return () => { sized.disconnect(); image.onload = null; map.remove(); };
  }, [address]);
  return html`<div class="picture-view" ref=${element}></div>`;
}

function Pictures({ tokens }) {
  const [shown, setShown] = useState(0), n = tokens.length, i = Math.min(shown, n - 1);
  useEffect(() => setShown(0), [tokens[0]]);
  const turn = (by) => setShown((i + by + n) % n);
  return html`<section class="pictures-box" tabindex="-1" aria-label="Where was this picture taken?">
    <${PictureView} key=${tokens[i]} address=${`/api/picture/${tokens[i]}`} label=${n > 1 ? `Picture ${i + 1} of ${n} of this place` : "The picture of this round"} />
    ${n > 1 && html`<div class="turn"><button type="button" onClick=${() => turn(-1)} aria-label="Turn left">←</button>
      <span role="status">view ${i + 1} of ${n}</span><button type="button" onClick=${() => turn(1)} aria-label="Turn right">→</button></div>`}</section>`;
}

// Names of cities, the largest first, as many as fit without touching each other.
function paintCities(ctx, x, y, zoom) {
  const taken = [];
  ctx.font = "11px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  const most = Math.min(PAGE.cities.length, Math.round(14 * 4 ** Math.max(0, zoom)));
  for (const [name, lat, lon] of PAGE.cities.slice(0, most)) {
    const left = x(lon), top = y(lat), width = ctx.measureText(name).width + 10;
    const box = [left - 4, top - 9, left + width, top + 9];
    if (taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) continue;
    taken.push(box);
    ctx.fillStyle = colour("muted");
    ctx.beginPath();
    dotAt(ctx, left, top, 1.6);
    ctx.fill();
    ctx.lineWidth = 3;
    ctx.strokeStyle = colour("land");
    ctx.strokeText(name, left + 5, top);
    ctx.fillText(name, left + 5, top);
  }
}

function dotAt(ctx, x, y, radius) {
  ctx.moveTo(x + radius, y);
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
}

// A map of places. `pin`: where the visitor has clicked; `marks`: [{lat, lon, kind, text?, size?, aside?}], the topmost
// last, those `aside` need not be in sight;
// `lines`: [[lat1, lon1, lat2, lon2, colour]]; `circles`: [{lat, lon, radius_km, colour, dashed}].
function GuessMap({ pin, onPin, marks, lines, circles = [], label }) {
  const element = useRef(), world = useRef(), now = useRef({}), pins = useRef();
  now.current = { onPin, marks, lines, circles };
  useEffect(() => {
    const made = makeWorld(element.current, PAGE.land, { tiles: PAGE.tiles, mercator: true, label, zoomed: 8 });
    if (!PAGE.tiles) made.layer((ctx, x, y) => paintCities(ctx, x, y, made.map.getZoom() - made.map.getMinZoom()));
    made.over = made.layer((ctx, x, y) => paintResult(ctx, x, y, now.current));
    made.map.on("click", (event) => {
      const { lat, lng } = event.latlng;
      now.current.onPin?.({ lat: Math.max(-90, Math.min(90, lat)), lon: Math.max(-180, Math.min(180, lng)) });
    });
    // The keyboard's way to click: Enter puts the pin into the middle of the map.
    element.current.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target !== element.current) return;
      const { lat, lng } = made.map.getCenter();
      now.current.onPin?.({ lat, lon: lng });
      event.preventDefault();
    });
    pins.current = L.layerGroup().addTo(made.map);
    world.current = made;
    const sized = new ResizeObserver(() => { made.map.invalidateSize({ animate: false }); if (!now.current.marks.length) made.fit(); });
    sized.observe(element.current);
    return () => { sized.disconnect(); made.map.remove(); };
  }, []);
  useEffect(() => {
    pins.current.clearLayers();
    [...(pin ? [{ ...pin, kind: "mine" }] : []), ...marks].forEach((mark, i) => {
      const said = document.createElement("span"), size = mark.size || 18;
      said.textContent = mark.text || "";
      const icon = L.divIcon({ className: `pin ${mark.kind}`, iconSize: [size, size], html: said });
      L.marker([mark.lat, mark.lon], { icon, keyboard: false, interactive: false, zIndexOffset: 1000 * i }).addTo(pins.current);
    });
    world.current.over.again();
    if (marks.length) {
      const shown = L.latLngBounds([...marks.filter((mark) => !mark.aside), ...(pin ? [pin] : [])].map((one) => [one.lat, one.lon]));
      circles.filter((circle) => circle.radius_km < SEEN_KM).flatMap(circleBounds).forEach((corner) => shown.extend(corner));
      requestAnimationFrame(() => { world.current.map.invalidateSize({ animate: false }); world.current.map.fitBounds(shown.pad(circles.length ? 0.12 : 0.35), { maxZoom: 4.5, animate: false }); });
    } else if (!pin) world.current.fit();
  }, [pin?.lat, pin?.lon, marks.map((m) => `${m.lat} ${m.lon}`).join(), circles.map((c) => `${c.lat} ${c.lon} ${c.radius_km}`).join()]);
  useRedraw(() => world.current?.again());
  useEffect(() => { element.current.classList.toggle("open", !!onPin); }, [!!onPin]); // as an attribute it would undo Leaflet's own classes
  return html`<div class="world guessing" ref=${element}></div>`;
}

const SEEN_KM = 2500; // a smaller circle is shown whole
const EARTH_WIDE_KM = 20000; // a larger one is the whole Earth and is not drawn

// The corners of a box around a circle, which stays on the map.
function circleBounds({ lat, lon, radius_km }) {
  const up = radius_km / (EARTH_KM * RADIANS), aside = Math.min(180, up / Math.max(0.1, Math.cos(lat * RADIANS)));
  return [[Math.max(-85, lat - up), Math.max(-180, lon - aside)], [Math.min(85, lat + up), Math.min(180, lon + aside)]];
}

// The circles that a guess claims, [[probability, km], ...], the smaller first; what spans the Earth is none.
const claimed = (guess) => (guess?.ok ? guess.circles : []).filter(([, radius]) => radius < EARTH_WIDE_KM).map(([probability, radius_km]) => (
  { lat: guess.lat, lon: guess.lon, radius_km, colour: "place", dashed: probability > 0.5 }));

// How sure a model is, in words.
function sureness(guess, what) {
  if (guess.unlike) return `It cannot say how sure it is: its radius was learned from pictures of ${guess.calibrated_on}, and ${guess.unlike}.`;
  if (!guess.circles.length) return "It does not say how sure it is: nobody has measured how far off it is.";
  const within = ([probability, radius], i) => `for ${Math.round(100 * probability)} of 100${i ? "" : ` ${what} such as these the true place lies`} ${radius < EARTH_WIDE_KM ? `within ${km(radius)} km${i ? "" : " of its guess"}` : "anywhere on Earth"}`;
  return `It says: ${guess.circles.map(within).join(", ")}.`;
}

function paintResult(ctx, x, y, { lines, circles }) {
  ctx.lineCap = "round";
  for (const circle of circles) {
    const points = circleAround(circle.lat, circle.lon, circle.radius_km);
    ctx.beginPath();
    trace(ctx, points, x, y);
    ctx.strokeStyle = ctx.fillStyle = colour(circle.colour);
    if (points.every((value, i) => i < 3 || i % 2 === 0 || Math.abs(value - points[i - 2]) < 180)) { // not cut at the map's edge
      ctx.globalAlpha = 0.09;
      ctx.fill();
      ctx.globalAlpha = 1;
    }
    if (circle.dashed) ctx.setLineDash([6, 4]);
    ctx.lineWidth = 1.5;
    ctx.stroke();
    ctx.setLineDash([]);
  }
  for (const [lat1, lon1, lat2, lon2, name] of lines) {
    ctx.beginPath();
    trace(ctx, arc(lat1, lon1, lat2, lon2), x, y);
    ctx.strokeStyle = colour(name);
    ctx.lineWidth = 2.2;
    ctx.stroke();
  }
}
