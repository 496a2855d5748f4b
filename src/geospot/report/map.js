"use strict";
// Zoom, panning and labels of the maps of a page. A map is complete without it; nothing is fetched.
const WORLD = { width: 36000, height: 18000 }; // the units of report/atlas.py
const DEEPEST = 64; // times the whole world
const STEP = 1.6;

class MapView {
  constructor(frame) {
    this.frame = frame;
    this.svg = frame.querySelector("svg");
    const { x, y, width, height } = this.svg.viewBox.baseVal;
    this.home = { x, y, width, height };
    this.box = { ...this.home };
    this.pointers = new Map();
    this.label = frame.appendChild(document.createElement("div"));
    this.label.className = "tip";
    this.label.hidden = true;
    this.addButtons();
    this.takeTitles();
    this.listen();
  }

  addButtons() {
    const bar = document.createElement("div");
    bar.className = "zoom";
    for (const [sign, name, act] of [
      ["+", "Zoom in", () => this.zoom(1 / STEP)],
      ["−", "Zoom out", () => this.zoom(STEP)],
      ["⤢", "Whole map", () => this.show(this.home)],
    ]) {
      const button = bar.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = sign;
      button.title = name;
      button.setAttribute("aria-label", name);
      button.addEventListener("click", act);
    }
    this.frame.after(bar);
  }

  // The label takes the place of the browser's own tooltip, which comes late and not at all on a phone.
  takeTitles() {
    for (const title of this.svg.querySelectorAll("title")) {
      title.parentNode.dataset.tip = title.textContent;
      title.remove();
    }
  }

  listen() {
    const { frame, svg } = this;
    frame.addEventListener("wheel", (e) => this.onWheel(e), { passive: false });
    frame.addEventListener("dblclick", (e) => this.zoom(1 / STEP, this.at(e)));
    frame.addEventListener("keydown", (e) => this.onKey(e));
    svg.addEventListener("pointerdown", (e) => this.onDown(e));
    svg.addEventListener("pointermove", (e) => this.onMove(e));
    for (const kind of ["pointerup", "pointercancel"]) svg.addEventListener(kind, (e) => this.onUp(e));
    svg.addEventListener("pointerleave", () => this.tell(null));
  }

  // The place on the drawing below a pointer.
  at(event) {
    const area = this.svg.getBoundingClientRect();
    const unit = this.box.width / area.width;
    return { x: this.box.x + (event.clientX - area.left) * unit, y: this.box.y + (event.clientY - area.top) * unit };
  }

  show(box) {
    const width = Math.min(Math.max(box.width, WORLD.width / DEEPEST), WORLD.width);
    const height = (width * this.home.height) / this.home.width;
    const within = (value, size, all) => (size >= all ? (all - size) / 2 : Math.min(Math.max(value, 0), all - size));
    this.box = { x: within(box.x, width, WORLD.width), y: within(box.y, height, WORLD.height), width, height };
    if (box === this.home) this.box = { ...this.home };
    this.svg.setAttribute("viewBox", [this.box.x, this.box.y, width, height].map((v) => v.toFixed(1)).join(" "));
    this.frame.classList.toggle("zoomed", width < this.home.width * 0.99);
  }

  // Zoom by `factor` (below 1: in) so that `fixed` stays where it is.
  zoom(factor, fixed) {
    const { x, y, width, height } = this.box;
    fixed = fixed ?? { x: x + width / 2, y: y + height / 2 };
    const least = WORLD.width / DEEPEST / width;
    factor = Math.min(Math.max(factor, least), WORLD.width / width);
    this.show({ x: fixed.x - (fixed.x - x) * factor, y: fixed.y - (fixed.y - y) * factor, width: width * factor });
  }

  move(dx, dy) {
    this.show({ ...this.box, x: this.box.x + dx, y: this.box.y + dy });
  }

  // The wheel scrolls the page, unless the map has been clicked (it has the focus then) or Ctrl is held.
  onWheel(event) {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.frame) return;
    event.preventDefault();
    this.zoom(Math.exp(Math.max(-100, Math.min(100, event.deltaY)) * 0.003), this.at(event));
  }

  onKey(event) {
    const step = this.box.width / 8;
    const keys = {
      "+": () => this.zoom(1 / STEP), "=": () => this.zoom(1 / STEP), "-": () => this.zoom(STEP),
      "0": () => this.show(this.home), ArrowLeft: () => this.move(-step, 0), ArrowRight: () => this.move(step, 0),
      ArrowUp: () => this.move(0, -step), ArrowDown: () => this.move(0, step),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  onDown(event) {
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (event.pointerType !== "touch") return;
    this.tell(event.target.closest("[data-tip]"), event);
  }

  // One pointer drags the map, two pinch it: what lay between them stays there.
  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.tell(event.target.closest("[data-tip]"), event);
    if (event.buttons === 0) return this.onUp(event);
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, pointer]) => pointer);
    const unit = this.box.width / this.svg.getBoundingClientRect().width;
    const share = other ? 0.5 : 1;
    this.move((before.x - event.clientX) * unit * share, (before.y - event.clientY) * unit * share);
    if (other) {
      const away = (p) => Math.max(Math.hypot(p.x - other.x, p.y - other.y), 1);
      const now = { x: event.clientX, y: event.clientY };
      const middle = { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 };
      this.zoom(away(before) / away(now), this.at(middle));
    }
    // Only a real drag takes the pointer: a click that is captured would never reach the frame's focus.
    if (!this.svg.hasPointerCapture(event.pointerId)) this.svg.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.tell(null);
  }

  onUp(event) {
    this.pointers.delete(event.pointerId);
  }

  // Label what the pointer is on, and let everything else step back.
  tell(shape, event) {
    this.svg.querySelectorAll(".on").forEach((other) => other !== shape && other.classList.remove("on"));
    this.svg.classList.toggle("telling", Boolean(shape && shape.matches(".pair")));
    this.label.hidden = !shape;
    if (!shape) return;
    shape.classList.add("on");
    this.label.textContent = shape.dataset.tip;
    const area = this.frame.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    const left = Math.min(Math.max(x - this.label.offsetWidth / 2, 4), area.width - this.label.offsetWidth - 4);
    const above = y - this.label.offsetHeight - 14;
    this.label.style.translate = `${left}px ${above < 4 ? y + 18 : above}px`;
  }
}

document.querySelectorAll(".map > .frame").forEach((frame) => new MapView(frame));

// A line of a list that names a mark of a map lights it.
for (const line of document.querySelectorAll("[data-mark]")) {
  const light = (on) => document.getElementById(line.dataset.mark)?.classList.toggle("lit", on);
  line.addEventListener("pointerenter", () => light(true));
  line.addEventListener("pointerleave", () => light(false));
}
