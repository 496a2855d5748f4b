"use strict";
// The runs as the page has them: read from the server, or, on a page that stands alone, from the page itself.
const ANSWERS_KEPT = 3_000_000;
const RETRY_MS = 2000; // after which what could not be read is asked for once more

const SERVER = {
  runs: () => ask("/api/runs"),
  run: (id) => ask("/api/run", { run: id }),
  answers: (run, split, step, to) => ask("/api/answers", { run, split, step, to }),
  picture: (run, split, step, group) => ask("/api/picture", { run, split, step, group }),
  listen(store) {
    const source = new EventSource("/api/events");
    source.onmessage = (event) => store.hear(JSON.parse(event.data));
    source.addEventListener("hello", () => store.begin());
    source.onerror = () => store.set({ connected: false });
  },
};

class Store {
  constructor(source, changed) {
    Object.assign(this, { source, changed, runs: new Map(), list: [], connected: true, error: "", kept: 0, busy: new Set() });
  }

  set(values) { Object.assign(this, values); this.changed(); }

  // At the start, and after each break of the connection: what was missed is read again.
  async begin() {
    try {
      const list = await this.source.runs();
      this.set({ list, connected: true, error: "" });
      await Promise.all([...this.runs.keys()].map((id) => this.load(id)));
    } catch (error) { this.set({ error: error.message }); }
  }

  async load(id) {
    try {
      const found = await this.source.run(id), before = this.runs.get(id);
      const same = before && before.epoch === found.epoch && before.run_id === found.run_id;
      this.runs.set(id, { ...found, label: id, frames: same ? before.frames : {} });
      this.changed();
    } catch (error) { this.set({ error: error.message }); }
  }

  hear(message) {
    const { from, new: rows, answers, ...summary } = message;
    const known = this.list.some((one) => one.id === summary.id);
    this.list = known ? this.list.map((one) => (one.id === summary.id ? summary : one)) : [...this.list, summary];
    const run = this.runs.get(summary.id);
    if (run && (summary.epoch !== run.epoch || summary.run_id !== run.run_id || from > run.metrics.length)) { this.load(summary.id); return; }
    if (run) {
      const fresh = rows.slice(run.metrics.length - from);
      for (const [split, pairs] of Object.entries(answers)) {
        const begin = pairs[0][0];
        run.answers[split] = [...(run.answers[split] || []).filter(([step]) => step < begin), ...pairs];
      }
      this.runs.set(summary.id, { ...run, ...summary, metrics: [...run.metrics, ...fresh] });
    }
    this.set({ connected: true });
  }

  steps(id, split) { return (this.runs.get(id)?.answers[split] || []).map(([step]) => step); }
  frame(id, split, step) { return this.runs.get(id)?.frames[split]?.get(step); }

  // Reads the answers of a step, and then of those before it that are not here yet, block by block.
  async fill(id, split, step) {
    const key = `${id} ${split}`, run = this.runs.get(id);
    if (!run || this.busy.has(key)) return;
    this.busy.add(key);
    try {
      const frames = (run.frames[split] ||= new Map());
      for (let missing = step; missing !== undefined && this.kept < ANSWERS_KEPT;) {
        const block = await this.source.answers(id, split, this.begin_of(id, split, missing), missing);
        for (const frame of unpack(block)) { frames.set(frame.step, frame); this.kept += frame.n; }
        if (!frames.has(missing)) break;
        this.changed();
        missing = this.steps(id, split).filter((one) => !frames.has(one)).pop();
      }
      if (this.error) this.set({ error: "" });
    } catch (error) {
      this.set({ error: error.message });
      if (this.list.some((one) => one.id === id && one.state !== "deleted") && !this.source.alone) setTimeout(() => this.fill(id, split, step), RETRY_MS);
    }
    this.busy.delete(key);
  }

  // The first step of the gap that ends in a missing one.
  begin_of(id, split, missing) {
    const before = this.steps(id, split).filter((one) => one < missing && this.frame(id, split, one));
    return before.length ? before[before.length - 1] + 1 : 0;
  }
}

// A page that stands alone: JSON, packed by gzip, in base64.
async function standalone(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { runs, answers, pictures } = JSON.parse(await new Response(stream).text());
  const absent = (what) => { throw new Refused(what); };
  return {
    runs: async () => runs,
    run: async (id) => runs.find((run) => run.id === id),
    answers: async (run, split) => answers[run][split],
    picture: async (run, split, step, group) => pictures[run]?.[split]?.[step]?.[group]
      ?? absent("the words of this step's answers are not part of this page"),
    listen: (store) => store.begin(),
  };
}
