"use strict";
// The answers of a step: how they come, and how they are painted.
const REWARD_STEPS = 7; // the colours c0 to c6
const PATHS_KEPT = 120; // steps whose great circles are kept

// The steps of a block that answers.py has packed.
function unpack(block) {
  const text = atob(block.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const values = new Float32Array(bytes.buffer), total = values.length / block.columns.length;
  let begin = 0;
  return block.steps.map((step, i) => {
    const n = block.counts[i], frame = { step, n };
    block.columns.forEach((name, k) => { frame[name] = values.subarray(k * total + begin, k * total + begin + n); });
    begin += n;
    frame.pictures = picturesOf(frame);
    return frame;
  });
}

function picturesOf(frame) {
  const found = [];
  for (let i = 0; i < frame.n; i++) {
    if (i && frame.group_index[i] === frame.group_index[i - 1]) { found[found.length - 1].end = i + 1; continue; }
    found.push({ group: frame.group_index[i], lat: frame.true_lat[i], lon: frame.true_lon[i], begin: i, end: i + 1 });
  }
  return found;
}

function medianKm(frame, begin = 0, end = frame.n) {
  const sorted = Array.from(frame.distance_km.subarray(begin, end)).filter((d) => !Number.isNaN(d)).sort((a, b) => a - b);
  const m = sorted.length >> 1;
  return !sorted.length ? NaN : sorted.length % 2 ? sorted[m] : (sorted[m - 1] + sorted[m]) / 2;
}

const withPaths = [];
function pathsOf(frame) {
  if (!frame.paths) {
    frame.paths = [];
    for (let i = 0; i < frame.n; i++) {
      const here = Number.isNaN(frame.lat[i]) ? null : [frame.true_lat[i], frame.true_lon[i], frame.lat[i], frame.lon[i]];
      frame.paths.push(here && frame.distance_km[i] > 500 ? arc(...here) : here);
    }
    withPaths.push(frame);
    if (withPaths.length > PATHS_KEPT) delete withPaths.shift().paths;
  }
  return frame.paths;
}

// How the answers of a step are told apart: [{colour, members}], the worst first, so that the best are on top.
function bins(frame, by, plain) {
  if (by === "run") return [{ colour: plain, members: [...Array(frame.n).keys()] }];
  const reward = by === "reward", n = reward ? REWARD_STEPS : DISTANCE_NAMES.length;
  const found = Array.from({ length: n }, (_, i) => ({ colour: colour(`${reward ? "c" : "d"}${i}`), members: [] }));
  for (let i = 0; i < frame.n; i++) {
    if (Number.isNaN(frame.lat[i])) continue;
    const value = frame.reward[i];
    const bin = reward ? Math.min(n - 1, Math.max(0, Math.floor((value || 0) * n))) : distanceClass(frame.distance_km[i]);
    found[bin].members.push(i);
  }
  return reward ? found : found.reverse();
}

// Paints a step: lines from truths to answers, tau around the truths, answers, truths. `only`: one picture's group.
function paintFrame(ctx, x, y, frame, { by, plain, tau, only, dots = 1 }) {
  const wide = (x(180) - x(-180)) / 900; // many places would cover a small map
  const paths = pathsOf(frame), large = frame.pictures.length > 100 ? Math.min(1, Math.max(0.55, wide)) : frame.n < 400 ? 1.4 : 1;
  for (const { colour: stroke, members } of bins(frame, by, plain)) {
    ctx.strokeStyle = ctx.fillStyle = stroke;
    for (const lit of only === null ? [true] : [false, true]) {
      const shown = members.filter((i) => paths[i] && (only === null || (frame.group_index[i] === only) === lit));
      ctx.globalAlpha = lit ? (only === null ? 0.4 : 0.8) : 0.06;
      ctx.lineWidth = lit && only !== null ? 1.6 : 1;
      ctx.beginPath();
      for (const i of shown) trace(ctx, paths[i], x, y);
      ctx.stroke();
      ctx.globalAlpha = lit ? 0.95 : 0.12;
      ctx.beginPath();
      for (const i of shown) dot(ctx, x(frame.lon[i]), y(frame.lat[i]), 2.1 * large * dots * (lit && only !== null ? 1.5 : 1));
      ctx.fill();
    }
  }
  if (tau) paintTau(ctx, x, y, frame, tau, only);
  paintTruths(ctx, x, y, frame, only, large);
}

function dot(ctx, x, y, radius) {
  ctx.moveTo(x + radius, y);
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
}

function paintTau(ctx, x, y, frame, tau, only) {
  ctx.strokeStyle = colour("place");
  ctx.lineWidth = 1.2;
  ctx.setLineDash([5, 4]);
  for (const picture of frame.pictures) {
    if (only !== null && picture.group !== only) continue;
    ctx.globalAlpha = only === null ? Math.min(0.5, 12 / frame.pictures.length) : 1;
    ctx.beginPath();
    trace(ctx, circleAround(picture.lat, picture.lon, tau), x, y);
    ctx.stroke();
  }
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
}

function paintTruths(ctx, x, y, frame, only, large) {
  for (const [style, radius] of [["ink", 3.2], ["card", 1.8]]) {
    for (const lit of [false, true]) {
      ctx.globalAlpha = only === null || lit ? 1 : 0.25;
      ctx.fillStyle = colour(style);
      ctx.beginPath();
      for (const p of frame.pictures) {
        if ((only === null || p.group === only) === lit) dot(ctx, x(p.lon), y(p.lat), radius * large * (lit && only !== null ? 1.5 : 1));
      }
      ctx.fill();
    }
  }
  ctx.globalAlpha = 1;
}
