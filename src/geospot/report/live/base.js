"use strict";
// What all pages share: components, numbers as text, requests, colours of the style sheet.
const { html, render, useState, useEffect, useRef, useMemo, useReducer } = htmPreact;
const PAGE = JSON.parse(document.getElementById("data").textContent);
const MISSING = "–";

// Three significant digits and thousands apart; a true minus sign.
function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return MISSING;
  const size = Math.abs(value);
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  const text = size >= 1e7 || (size < 1e-3 && size > 0) ? value.toExponential(2)
    : value.toLocaleString("en", { maximumFractionDigits: digits });
  return text.replace("-", "−");
}
const km = (value) => (value === null || value === undefined || Number.isNaN(value) ? MISSING
  : value.toLocaleString("en", { maximumFractionDigits: value < 9.95 ? 1 : 0 }));
const degrees = (lat, lon) =>
  `${Math.abs(lat).toFixed(2)}°\u00a0${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(2)}°\u00a0${lon < 0 ? "W" : "E"}`;

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min` : `${Math.round(s / 86400)} days`;
}

// The classes d0 to d4 of the style sheet.
const DISTANCE_BOUNDS = [25, 200, 750, 2500];
const DISTANCE_NAMES = ["≤ 25 km", "≤ 200 km", "≤ 750 km", "≤ 2,500 km", "farther"];
const distanceClass = (value) => DISTANCE_BOUNDS.filter((bound) => value > bound).length;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

class Refused extends Error {}

async function ask(path, query = {}, options = {}) {
  const found = await fetch(`${path}?${new URLSearchParams(query)}`, options);
  const answer = await found.json().catch(() => ({}));
  if (!found.ok) throw new Refused(answer.detail || `${path}: ${found.status}`);
  return answer;
}
const tell = (path, value) =>
  ask(path, {}, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });

// Called with the colours changed, or the window's width.
function useRedraw(draw) {
  useEffect(() => {
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const later = () => requestAnimationFrame(draw);
    scheme.addEventListener("change", later);
    addEventListener("resize", later);
    return () => { scheme.removeEventListener("change", later); removeEventListener("resize", later); };
  }, []);
}
