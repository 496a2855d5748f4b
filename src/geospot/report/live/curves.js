"use strict";
// The panels of curves by uPlot: one run in the colours of its lines, several in a colour each, over the same steps.
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3]];
const COLOURS = ["s0", "s1", "s2", "s3", "place", "focus"]; // of the style sheet, which keeps them apart
const HEIGHT = 168;
const shadeOf = (line, several) => {
  const [shade, dash] = several ? [line.runIndex, line.lineIndex] : [line.lineIndex, line.lineIndex];
  return { shade: COLOURS[shade % COLOURS.length], dash: DASHES[(dash + Math.floor(shade / COLOURS.length)) % DASHES.length] };
};

// [{run, key, name, band}] of what the runs have to show in a panel.
function linesOf(panel, runs) {
  return runs.flatMap((run, runIndex) => {
    const lines = panel.perSet ? panel.lines.flatMap((line) => setsOf(run, line.key).map((set) => (
      { ...line, key: `${set}/${line.key}`, name: set }))) : panel.lines;
    return lines.map((line, lineIndex) => ({ ...line, run, runIndex, lineIndex }))
      .filter((line) => run.metrics.some((row) => typeof row[line.key] === "number"));
  });
}

function setsOf(run, ending) {
  const keys = new Set(run.metrics.flatMap((row) => Object.keys(row).filter((key) => key.endsWith(`/${ending}`))));
  return [...keys].map((key) => key.slice(0, -ending.length - 1)).filter((set) => set !== "train");
}

function table(line, log) {
  const usable = (value) => (typeof value === "number" && (!log || value > 0) ? value : null);
  const rows = line.run.metrics.filter((row) => typeof row[line.key] === "number");
  const columns = [line.key, ...(line.band ? [`${line.key}_low`, `${line.key}_high`] : [])];
  return [rows.map((row) => row.step), ...columns.map((key) => rows.map((row) => usable(row[key])))];
}

function seriesOf(lines, several) {
  return lines.flatMap((line) => {
    const { shade, dash } = shadeOf(line, several), stroke = colour(shade);
    const shown = { stroke, width: 1.8, dash, spanGaps: true,
      points: { show: line.run.metrics.length < 3 || line.band, size: line.band ? 4 : 6, fill: stroke } };
    const hidden = { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } };
    return [shown, ...(line.band ? [hidden, hidden] : [])];
  });
}

function bandsOf(lines, several) {
  let at = 1;
  return lines.flatMap((line) => {
    const own = at;
    at += line.band ? 3 : 1;
    const fill = `color-mix(in srgb, ${colour(shadeOf(line, several).shade)} 18%, transparent)`;
    return line.band ? [{ series: [own + 2, own + 1], fill }] : [];
  });
}

function Panel({ panel, runs, step, onStep, draws }) {
  const holder = useRef(), plot = useRef(), mark = useRef(), now = useRef();
  const [under, setUnder] = useState(null);
  const lines = linesOf(panel, runs), several = runs.length > 1;
  const version = `${runs.map((run) => `${run.id}:${run.epoch}:${run.metrics.length}`)} ${draws} ${lines.length}`;
  now.current = step;
  const place = (u) => {
    if (now.current !== null) mark.current.style.transform = `translateX(${Math.round(u.valToPos(now.current, "x"))}px)`;
  };
  useEffect(() => {
    if (!lines.length) return undefined;
    mark.current = document.createElement("div");
    mark.current.className = "now";
    const axis = { stroke: colour("muted"), grid: { stroke: colour("rule"), width: 1 }, ticks: { stroke: colour("rule"), width: 1 },
      font: "11px system-ui, sans-serif", labelFont: "11px system-ui, sans-serif" };
    const made = new uPlot({
      width: holder.current.clientWidth, height: HEIGHT, padding: [10, 12, 0, 0], legend: { show: false },
      scales: { x: { time: false }, y: { distr: panel.log ? 3 : 1 } },
      axes: [{ ...axis, size: 28, space: 60 }, { ...axis, size: 52, values: (_, ticks) => ticks.map((v) => (v === null ? "" : Math.abs(v) >= 1e4 ? `${short(v / 1000)}k` : short(v))) }],
      cursor: { sync: { key: "steps" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      series: [{}, ...seriesOf(lines, several)], bands: bandsOf(lines, several),
      hooks: { setCursor: [(u) => setUnder(u.cursor.idx ?? null)], draw: [place] },
    }, uPlot.join(lines.map((line) => table(line, panel.log))), holder.current);
    made.over.append(mark.current);
    made.over.addEventListener("click", () => made.cursor.idx !== null && onStep(made.data[0][made.cursor.idx]));
    plot.current = made;
    const sized = new ResizeObserver(() => made.setSize({ width: holder.current?.clientWidth || 300, height: HEIGHT }));
    sized.observe(holder.current);
    return () => { sized.disconnect(); made.destroy(); plot.current = null; };
  }, [version]);
  useEffect(() => { if (plot.current) place(plot.current); }, [step]);
  if (!lines.length) return null;
  return html`<figure class="panel"><figcaption><span>${panel.title}${panel.unit && html` <small>${panel.unit}</small>`}</span></figcaption>
    <ul class="legend">${lines.map((line) => html`<${Value} ...${{ line, several, plot, under, log: panel.log }} />`)}</ul>
    <div ref=${holder} role="img" aria-label=${spoken(panel, lines)}></div></figure>`;
}

// A line's name and its value under the pointer, else its last.
function Value({ line, several, plot, under }) {
  const rows = line.run.metrics.filter((row) => typeof row[line.key] === "number");
  const step = under === null || !plot.current ? null : plot.current.data[0][under];
  const row = step === null ? rows[rows.length - 1] : rows.filter((r) => r.step <= step).pop();
  const name = [several && line.run.label, line.name].filter(Boolean).join(": ");
  const { shade, dash } = shadeOf(line, several);
  return html`<li><svg class="stroke" viewBox="0 0 22 4" aria-hidden="true"><path d="M0 2H22" stroke=${`var(--${shade})`} stroke-dasharray=${dash.join(" ")}/></svg>${name} <b>${short(row?.[line.key])}</b></li>`;
}

function spoken(panel, lines) {
  return `${panel.title}${panel.unit ? `, ${panel.unit}` : ""}. ${lines.slice(0, 6).map((line) => {
    const rows = line.run.metrics.filter((row) => typeof row[line.key] === "number");
    const [first, last] = [rows[0], rows[rows.length - 1]];
    return `${line.run.label} ${line.name}: ${short(first[line.key])} at step ${first.step}, ${short(last[line.key])} at step ${last.step}`;
  }).join("; ")}`;
}
