"use strict";
// A map of the Earth by Leaflet: the countries from this page's own outlines, tiles only where they are asked for, and
// layers that are painted onto a canvas, since thousands of dots as objects would be slow.
const EARTH_KM = 6371.0088;
const RADIANS = Math.PI / 180;

// Points along the great circle as [lat, lon, ...], at most 2 degrees apart; a jump at the date line is left to `trace`.
function arc(lat1, lon1, lat2, lon2) {
  const unit = (lat, lon) => [Math.cos(lat) * Math.cos(lon), Math.cos(lat) * Math.sin(lon), Math.sin(lat)];
  const a = unit(lat1 * RADIANS, lon1 * RADIANS), b = unit(lat2 * RADIANS, lon2 * RADIANS);
  const dot = Math.min(1, Math.max(-1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2]));
  const angle = Math.acos(dot), n = Math.ceil(angle / (2 * RADIANS));
  if (n < 2 || Math.sin(angle) < 1e-6) return [lat1, lon1, lat2, lon2];
  const points = [lat1, lon1];
  for (let i = 1; i < n; i++) {
    const p = Math.sin((1 - i / n) * angle) / Math.sin(angle), q = Math.sin((i / n) * angle) / Math.sin(angle);
    const [x, y, z] = [0, 1, 2].map((k) => p * a[k] + q * b[k]);
    points.push(Math.atan2(z, Math.hypot(x, y)) / RADIANS, Math.atan2(y, x) / RADIANS);
  }
  points.push(lat2, lon2);
  return points;
}

function distanceKm(lat1, lon1, lat2, lon2) {
  const s = (x) => Math.sin((x * RADIANS) / 2) ** 2;
  const h = s(lat2 - lat1) + Math.cos(lat1 * RADIANS) * Math.cos(lat2 * RADIANS) * s(lon2 - lon1);
  return 2 * EARTH_KM * Math.asin(Math.min(1, Math.sqrt(h)));
}

// Points [lat, lon, ...] at a distance around a place, closed.
function circleAround(lat, lon, radiusKm, n = 72) {
  const r = Math.min(radiusKm / EARTH_KM, Math.PI - 1e-3), phi = lat * RADIANS, points = [];
  for (let i = 0; i <= n; i++) {
    const t = (2 * Math.PI * i) / n;
    const sin = Math.sin(phi) * Math.cos(r) + Math.cos(phi) * Math.sin(r) * Math.cos(t);
    const y = Math.sin(t) * Math.sin(r) * Math.cos(phi), x = Math.cos(r) - Math.sin(phi) * sin;
    points.push(Math.asin(sin) / RADIANS, ((lon + Math.atan2(y, x) / RADIANS + 540) % 360) - 180);
  }
  return points;
}

// A canvas that Leaflet moves and scales; `paint(ctx, x, y)` draws on it with x(lon) and y(lat).
const Painted = L.Canvas.extend({
  initialize(paint) { L.Canvas.prototype.initialize.call(this, { padding: 0.25, pane: "overlayPane" }); this.paint = paint; },
  _draw() {
    const map = this._map;
    if (!map || !this._bounds) return;
    const lift = map.options.crs === L.CRS.EPSG3857
      ? (lat) => Math.log(Math.tan(Math.PI / 4 + (Math.max(-85, Math.min(85, lat)) * RADIANS) / 2)) : (lat) => lat;
    const at = (place) => map.project(place).subtract(map.getPixelOrigin());
    const a = at([0, 0]), b = at([60, 90]);
    const dx = (b.x - a.x) / 90, dy = (b.y - a.y) / (lift(60) - lift(0));
    this.paint(this._ctx, (lon) => a.x + dx * lon, (lat) => a.y + dy * (lift(lat) - lift(0)));
  },
  // Leaflet's own keeps events from the map, for the objects on it; here there are none.
  _initContainer() {
    this._container = document.createElement("canvas");
    this._ctx = this._container.getContext("2d");
  },
  again() { if (this._map && this._bounds) this._redraw(); },
});

// Adds a line through points to the path, broken where it leaves the map at the date line.
function trace(ctx, points, x, y) {
  ctx.moveTo(x(points[1]), y(points[0]));
  for (let i = 2; i < points.length; i += 2) {
    if (Math.abs(points[i + 1] - points[i - 1]) > 180) {
      const edge = points[i - 1] > 0 ? 180 : -180, beyond = points[i + 1] + 2 * edge;
      const share = (edge - points[i - 1]) / (beyond - points[i - 1] || 1);
      const lat = points[i - 2] + share * (points[i] - points[i - 2]);
      ctx.lineTo(x(edge), y(lat));
      ctx.moveTo(x(-edge), y(lat));
    }
    ctx.lineTo(x(points[i + 1]), y(points[i]));
  }
}

function paintLand(rings) {
  return (ctx, x, y) => {
    ctx.beginPath();
    for (const ring of rings) {
      ring.forEach(([lat, lon], i) => (i ? ctx.lineTo(x(lon), y(lat)) : ctx.moveTo(x(lon), y(lat))));
      ctx.closePath();
    }
    ctx.fillStyle = colour("land");
    ctx.fill("evenodd");
    ctx.strokeStyle = colour("border");
    ctx.lineWidth = 0.75;
    ctx.stroke();
  };
}

// The borders that borderlines.py has packed: rings of [lon, lat, ...] in degrees, and which of their edges divide regions.
function unpackBorders(buffer) {
  const [rings, n] = new Int32Array(buffer, 0, 2), sizes = new Int32Array(buffer, 8, rings), begin = 8 + 4 * rings;
  const lon = new Int16Array(buffer, begin, n), lat = new Int16Array(buffer, begin + 2 * n, n), inner = new Uint8Array(buffer, begin + 4 * n, n);
  const found = [], degree = 180 / 32760;
  for (let r = 0, first = 0; r < rings; first += sizes[r], r += 1) {
    const ring = { x: [], y: [], inner: inner.subarray(first, first + sizes[r]), box: [90, 180, -90, -180] };
    for (let i = first; i < first + sizes[r]; i++) {
      const [x, y] = [lon[i] * degree, lat[i] * degree], { box } = ring;
      ring.x.push(x);
      ring.y.push(y);
      if (y < box[0]) box[0] = y;
      if (x < box[1]) box[1] = x;
      if (y > box[2]) box[2] = y;
      if (x > box[3]) box[3] = x;
    }
    found.push(ring);
  }
  return found;
}

let borders = null; // of all maps of a page: a promise of the rings

function paintBorders(rings, bounds) {
  const [south, west, north, east] = [bounds.getSouth(), bounds.getWest(), bounds.getNorth(), bounds.getEast()];
  const seen = rings.filter(({ box }) => box[0] < north && box[2] > south && box[1] < east && box[3] > west);
  return (ctx, x, y) => {
    const land = new Path2D(), outer = new Path2D(), within = new Path2D();
    for (const ring of seen) {
      let [a, b] = [x(ring.x[0]), y(ring.y[0])];
      land.moveTo(a, b);
      for (let i = 1; i < ring.x.length; i++) {
        const line = ring.inner[i - 1] ? within : outer;
        line.moveTo(a, b);
        [a, b] = [x(ring.x[i]), y(ring.y[i])];
        line.lineTo(a, b);
        land.lineTo(a, b);
      }
    }
    ctx.fillStyle = ctx.strokeStyle = colour("land");
    ctx.lineWidth = 1;
    ctx.fill(land);
    ctx.stroke(within); // no seams
    ctx.strokeStyle = colour("border");
    ctx.lineWidth = 0.6;
    ctx.stroke(within);
    ctx.lineWidth = 1;
    ctx.strokeStyle = colour("edge");
    ctx.stroke(outer);
  };
}

const DETAIL_ZOOMS = 1.6; // so many levels closer than the whole Earth, the outlines of the page would be seen to be coarse

// The ground of a map: the page's outlines, and closer by the detailed ones once they are here.
function paintGround(land, map, home, again) {
  let rings = null;
  const coarse = paintLand(land), close = () => map.getZoom() >= map.getBoundsZoom(home) + DETAIL_ZOOMS;
  map.on("zoomend", () => {
    if (rings || PAGE.alone || !close()) return;
    borders ||= fetch("/api/borders").then((found) => { if (!found.ok) throw new Refused(found.status); return found.arrayBuffer(); }).then(unpackBorders);
    borders.then((found) => { rings = found; again(); }, () => { borders = null; });
  });
  return (ctx, x, y) => (rings && close() ? paintBorders(rings, map.getBounds().pad(0.5)) : coarse)(ctx, x, y);
}

// A map in an element. `tiles`: {url, attribution} of a server of tiles, which are in Mercator's projection.
function makeWorld(element, land, { tiles = null, mercator = !!tiles, label, bottom = -58, zoomed = 9 } = {}) {
  const map = L.map(element, {
    crs: mercator ? L.CRS.EPSG3857 : L.CRS.EPSG4326, zoomSnap: 0.05, zoomDelta: 0.75, wheelPxPerZoomLevel: 90, minZoom: -1,
    maxZoom: tiles ? 17 : zoomed, maxBounds: [[mercator ? -85 : -90, -180], [mercator ? 85 : 90, 180]], maxBoundsViscosity: 1, attributionControl: !!tiles,
    worldCopyJump: false, zoomAnimation: true, fadeAnimation: false,
  });
  element.setAttribute("role", "application");
  element.setAttribute("aria-label", label);
  const home = [[bottom, -180], [mercator ? 80 : 84, 180]];
  const fit = () => { map.invalidateSize(); map.fitBounds(home, { animate: false }); map.setMinZoom(map.getZoom() - 0.25); };
  map.fitBounds(home, { animate: false });
  const base = tiles ? L.tileLayer(tiles.url, { attribution: tiles.attribution, noWrap: true }) : new Painted(paintGround(land, map, home, () => base.again()));
  base.addTo(map);
  const layers = tiles ? [] : [base];
  requestAnimationFrame(fit);
  return {
    map, fit, layers,
    layer(paint) { const made = new Painted(paint); made.addTo(map); layers.push(made); return made; },
    again() { layers.forEach((layer) => layer.again()); },
  };
}
