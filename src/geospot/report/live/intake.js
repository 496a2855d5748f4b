"use strict";
// Photos on their way: from a drop, the clipboard, a file or the camera to the server, and what the model says of them.
const KEPT = "geospot-photos";
const POLL_MS = 700;
const SENDING = 2; // at once
const OPEN = new Set(["waiting", "loading", "asking"]);
const NOTHING = { country: "", near: "", within: "" };

class Album {
  constructor(changed) {
    Object.assign(this, { changed, photos: [], chosen: 0, notice: "", lost: false, count: 0, queue: [], sending: 0, polling: false });
    this.known = { ...NOTHING, words: "", place: null, error: "" }; // as it was last understood; the texts as they are written
  }

  set(values) { Object.assign(this, values); this.changed(); }
  change(photo, values) { Object.assign(photo, values); this.changed(); }
  get texts() { const { country, near, within } = this.known; return { country, near, within }; }

  // What is known, understood by the server; false where it is not, with the reason beside the fields.
  async check() {
    try {
      const { refused, words, near, within } = await ask("/api/photo/known", this.texts);
      if (refused) throw new Refused(refused);
      this.set({ known: { ...this.known, words, place: near && { lat: near[0], lon: near[1], radius_km: within }, error: "" } });
      return true;
    } catch (error) {
      this.set({ known: { ...this.known, error: said(error) } });
      return false;
    }
  }

  async add(files) {
    this.set({ notice: "" });
    if (!files.length) return;
    if (!(await this.check())) { this.set({ notice: "The photos were not taken in: see what is known of the place." }); return; }
    const room = Math.max(0, PAGE.most - this.photos.length);
    if (files.length > room) this.set({ notice: `At most ${PAGE.most} photos at a time: ${files.length - room} were left out. Remove some first.` });
    for (const file of files.slice(0, room)) {
      const photo = { id: ++this.count, name: file.name || "photo", state: "queued", texts: this.texts };
      this.photos.push(photo);
      if (file.size > PAGE.most_bytes) Object.assign(photo, { state: "failed", reason: `It is larger than ${PAGE.most_bytes / 1e6} MB.` });
      else this.queue.push([photo, file]);
      this.chosen ||= photo.id;
    }
    this.changed();
    while (this.sending < SENDING && this.queue.length) this.send();
  }

  async send() {
    this.sending += 1;
    while (this.queue.length) {
      const [photo, file] = this.queue.shift();
      if (!this.photos.includes(photo)) continue;
      this.change(photo, { state: "sending" });
      try {
        const body = await file.arrayBuffer().catch(() => { throw new Refused("It cannot be read: is it a folder, or gone?"); });
        this.change(photo, await ask("/api/photo", { name: photo.name, ...photo.texts }, { method: "POST", body }));
        if (!this.photos.includes(photo)) this.forget(photo); // removed while it was on its way
        this.keep();
        this.poll();
      } catch (error) { this.change(photo, { state: "failed", reason: said(error) }); }
    }
    this.sending -= 1;
  }

  // Asks how the photos stand until all are answered.
  async poll() {
    if (this.polling) return;
    this.polling = true;
    for (let open; (open = this.photos.filter((one) => one.photo && OPEN.has(one.state))).length;) {
      try {
        const found = new Map((await ask("/api/photos", open.map((one) => ["photo", one.photo]))).map((one) => [one.photo, one]));
        open.forEach((one) => Object.assign(one, found.get(one.photo) || GONE));
        this.set({ lost: false });
      } catch { this.set({ lost: true }); }
      await pause(POLL_MS);
    }
    this.polling = false;
  }

  async again(photo) {
    if (!(await this.check())) return;
    try {
      this.change(photo, { ...(await tell("/api/photo/again", { photo: photo.photo, ...this.texts })), texts: this.texts });
      this.poll();
    } catch (error) { this.set({ notice: said(error) }); }
  }

  remove(photo) {
    const at = this.photos.indexOf(photo);
    this.photos.splice(at, 1);
    if (this.chosen === photo.id) this.chosen = (this.photos[at] || this.photos[at - 1])?.id || 0;
    this.keep();
    this.changed();
    this.forget(photo);
  }

  forget(photo) { if (photo.photo) tell("/api/photo/remove", { photo: photo.photo }).catch(() => {}); }

  // A page that is loaded anew shows the photos that the server still has.
  keep() { sessionStorage.setItem(KEPT, JSON.stringify(this.photos.filter((one) => one.photo).map((one) => one.photo))); }
  async restore() {
    const tokens = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
    if (!tokens.length) return;
    try {
      for (const one of await ask("/api/photos", tokens.map((token) => ["photo", token]))) this.photos.push({ id: ++this.count, texts: NOTHING, ...one });
      this.chosen ||= this.photos[0]?.id || 0;
      this.changed();
      this.poll();
    } catch (error) { this.set({ notice: said(error) }); }
  }
}

const GONE = { state: "failed", reason: "The server was started again and does not have this photo any more: drop it once more.", photo: null };
const said = (error) => (error instanceof Refused ? error.message : "No connection to the server.");

// What a paste brings has names such as image.png, all alike.
const pasted = (files) => files.map((file, i) => new File([file], `pasted ${new Date().toLocaleTimeString("en-GB")}${i ? ` (${i + 1})` : ""}.${file.type.split("/")[1] || "png"}`, { type: file.type }));

// Listens on the whole page, so that a photo that misses its place does not replace the page.
function useIntake(album, setOver) {
  useEffect(() => {
    const typing = (event) => event.target.matches?.("input, textarea");
    const listeners = {
      dragover: (event) => { event.preventDefault(); setOver(true); },
      dragleave: (event) => { if (!event.relatedTarget) setOver(false); },
      drop: (event) => {
        event.preventDefault();
        setOver(false);
        const files = [...event.dataTransfer.files];
        if (files.length) album.add(files);
        else album.set({ notice: "That is no file: save the picture first, and drop the file." });
      },
      paste: (event) => {
        const files = [...event.clipboardData.files];
        if (files.length) { event.preventDefault(); album.add(pasted(files)); }
        else if (!typing(event)) album.set({ notice: "There is no picture in the clipboard." });
      },
    };
    for (const [name, listener] of Object.entries(listeners)) document.addEventListener(name, listener);
    return () => { for (const [name, listener] of Object.entries(listeners)) document.removeEventListener(name, listener); };
  }, []);
}
