"use strict";
// A game as one picture, to save and to send: all rounds on a map, and what they were worth.
const CARD = { width: 1200, height: 720, map: 470 };

function drawSummary(game, models) {
  const canvas = document.createElement("canvas"), ctx = canvas.getContext("2d");
  [canvas.width, canvas.height] = [CARD.width, CARD.height];
  ctx.fillStyle = colour("paper");
  ctx.fillRect(0, 0, CARD.width, CARD.height);
  ctx.fillStyle = colour("sea");
  ctx.fillRect(0, 0, CARD.width, CARD.map);
  const x = (lon) => ((lon + 180) / 360) * CARD.width, y = (lat) => ((84 - lat) / 141) * CARD.map;
  ctx.save();
  ctx.beginPath();
  ctx.rect(0, 0, CARD.width, CARD.map);
  ctx.clip();
  paintLand(PAGE.land)(ctx, x, y);
  game.results.forEach((one, i) => drawRound(ctx, x, y, one, models[i + 1], i + 1));
  ctx.restore();
  drawWords(ctx, game, models);
  return canvas;
}

function drawRound(ctx, x, y, one, model, number) {
  for (const [guess, name] of [[model?.ok ? model : null, "place"], [one.guess, "first"]]) {
    if (!guess) continue;
    ctx.strokeStyle = ctx.fillStyle = colour(name);
    ctx.lineWidth = 2.5;
    ctx.beginPath();
    trace(ctx, arc(one.truth.lat, one.truth.lon, guess.lat, guess.lon), x, y);
    ctx.stroke();
    ctx.beginPath();
    dotAt(ctx, x(guess.lon), y(guess.lat), 6);
    ctx.fill();
  }
  ctx.beginPath();
  dotAt(ctx, x(one.truth.lon), y(one.truth.lat), 11);
  ctx.fillStyle = colour("ink");
  ctx.fill();
  ctx.fillStyle = colour("paper");
  ctx.font = "bold 13px system-ui, sans-serif";
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.fillText(String(number), x(one.truth.lon), y(one.truth.lat) + 0.5);
}

function drawWords(ctx, game, models) {
  const total = totalOf(game.results), theirs = scoreOf(game, models);
  ctx.textAlign = "left";
  ctx.fillStyle = colour("ink");
  ctx.font = "bold 40px system-ui, sans-serif";
  const streak = game.results.filter((one) => one.right).length;
  ctx.fillText(game.mode === "streak" ? `${streak} ${streak === 1 ? "country" : "countries"} in a row` : `${total.toLocaleString("en")} of ${(5000 * game.length).toLocaleString("en")} points`, 40, CARD.map + 56);
  ctx.font = "20px system-ui, sans-serif";
  ctx.fillStyle = colour("muted");
  const rival = theirs !== null && game.mode === "five" ? `   the model: ${theirs.toLocaleString("en")}` : "";
  ctx.fillText(`geospot play   code ${game.code}${rival}`, 40, CARD.map + 96);
  drawKey(ctx, Object.values(models).some((one) => one.ok));
  const first = Math.max(0, game.results.length - 5); // of a streak, how it ended
  game.results.slice(first).forEach((one, i) => {
    const left = 40 + i * 228;
    ctx.fillStyle = colour("ink");
    ctx.font = "bold 22px system-ui, sans-serif";
    ctx.fillText(`${first + i + 1}   ${game.mode === "streak" ? (one.right ? "right" : "wrong") : one.points.toLocaleString("en")}`, left, CARD.map + 158);
    ctx.font = "17px system-ui, sans-serif";
    ctx.fillStyle = colour("muted");
    ctx.fillText(one.km === null ? "no guess" : `${km(one.km)} km`, left, CARD.map + 188);
    ctx.fillText(one.country.length > 24 ? `${one.country.slice(0, 23)}…` : one.country, left, CARD.map + 214);
  });
}

// Which dots are whose, at the right.
function drawKey(ctx, rival) {
  let right = CARD.width - 40;
  for (const [name, text] of [...(rival ? [["place", "the model"]] : []), ["first", "you"], ["ink", "true place"]]) {
    ctx.fillStyle = colour("muted");
    right -= ctx.measureText(text).width;
    ctx.fillText(text, right, CARD.map + 56);
    ctx.fillStyle = colour(name);
    ctx.beginPath();
    dotAt(ctx, right - 16, CARD.map + 50, 7); // half the height of a letter above its line
    ctx.fill();
    right -= 48;
  }
}

const totalOf = (results) => results.reduce((sum, one) => sum + (one?.points || 0), 0);

// The model's points; null while an answer is missing, or where one could not be had.
const scoreOf = (game, models) => (game.results.every((_, i) => models[i + 1] && !models[i + 1].failed) ? totalOf(Object.values(models)) : null);

function saveSummary(game, models) {
  drawSummary(game, models).toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `geospot-${game.code}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}
