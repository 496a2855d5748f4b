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
  const base = tiles ? L.tileLayer(tiles.url, { attribution: tiles.attribution, noWrap: true }) : new Painted(paintLand(land));
  base.addTo(map);
  const layers = tiles ? [] : [base];
  requestAnimationFrame(fit);
  return {
    map, fit, layers,
    layer(paint) { const made = new Painted(paint); made.addTo(map); layers.push(made); return made; },
    again() { layers.forEach((layer) => layer.again()); },
  };
}
