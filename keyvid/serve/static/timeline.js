// The sound, the motion that was heard in it, keyframes and beats, one above the other in time.

import { Marks } from "./marks.js";
import { decode, waveformPath } from "./waveform.js";

const WIDTH = 1000;
const HEIGHT = 120;
const SVG = "http://www.w3.org/2000/svg";

const svg = (tag, attributes) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const html = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const numbers = (text) => text.split(",").map(Number);

export class Timeline {
  /** Shows itself in `place`; marks stand for the fields `keyframes` and `beats` of `settings`. */
  constructor(place, settings, model, video) {
    Object.assign(this, { place, settings, model, video });
    this.wave = svg("path", { class: "wave" });
    this.motion = svg("polyline", { class: "motion" });
    this.head = svg("line", { class: "head", y1: 0, y2: HEIGHT });
    this.picture = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": "The sound, and how much moves in the clip",
    });
    this.picture.append(this.wave, this.motion, this.head);
    this.buttons = html("p", { className: "buttons" });
    this.note = html("p", { className: "note" });
    this.seconds = model.frames / model.fps;
    this.#layOut();
    const follow = () => {
      const x = (this.video.currentTime / this.seconds) * WIDTH || 0;
      this.head.setAttribute("x1", x);
      this.head.setAttribute("x2", x);
      if (!this.video.paused) requestAnimationFrame(follow);
    };
    for (const event of ["play", "seeked", "timeupdate"]) video.addEventListener(event, follow);
    for (const name of ["start", "length"]) {
      settings.input(name)?.addEventListener("change", () => this.#draw());
    }
    for (const name of ["keyframes", "beats"]) {
      settings.input(name)?.addEventListener("change", () => {
        this.#showMarks();
        this.note.textContent = this.#giveUpOther(name);
      });
    }
  }

  /** Draws the waveform of `file`, and forgets what was marked on another. */
  async hear(file) {
    this.place.hidden = false;
    this.motion.setAttribute("points", "");
    this.found = undefined;
    if (this.settings.get("keyframes").includes(",")) this.settings.set("keyframes", "");
    if (this.settings.has("beats")) this.settings.set("beats", "");
    this.note.textContent = "";
    this.#showMarks();
    this.sound = undefined;
    this.#draw();
    this.file = file;
    const sound = await decode(file);
    if (file !== this.file) return; // another was chosen meanwhile
    this.sound = sound;
    this.#draw();
    if (!sound) this.note.textContent = "The browser cannot draw this sound; the server may read it.";
  }

  /** Draws what `report` says of a finished clip. */
  tell(report) {
    this.place.hidden = false;
    this.seconds = report.motion.length / this.model.fps;
    this.found = report;
    const most = Math.max(...report.motion);
    const least = Math.min(...report.motion);
    const points = report.motion.map((score, frame) => {
      const x = ((frame + 0.5) / report.motion.length) * WIDTH;
      return `${x.toFixed(1)},${(HEIGHT * (0.95 - (0.9 * (score - least)) / (most - least || 1))).toFixed(1)}`;
    });
    this.motion.setAttribute("points", points.join(" "));
    this.#layOut();
    this.#draw();
  }

  #layOut() {
    const { fps } = this.model;
    const frames = Math.round(this.seconds * fps);
    const field = (name, count) => (values) => {
      this.settings.set(name, values.join(","));
      this.note.textContent = `${count(values.length)}; "Make the clip" makes it so. ${this.#giveUpOther(name)}`;
    };
    this.keyframes = new Marks({
      noun: "Keyframe",
      length: frames - 1,
      step: 1,
      tell: (frame) => `frame ${frame}, ${(frame / fps).toFixed(2)} s`,
      isFixed: (index) => index === 0, // the given picture
      canAdd: false,
      onChange: field("keyframes", () => "Keyframes as you put them"),
    });
    this.beats = new Marks({
      noun: "Beat",
      length: this.seconds,
      most: this.seconds - 1 / fps,
      step: 1 / fps,
      tell: (second) => `${second.toFixed(2)} s`,
      canAdd: true,
      onChange: field("beats", beatsInWords),
    });
    const lanes = this.settings.has("beats") ? [this.beats.lane] : [];
    const track = html("div", { className: "track" }, ...lanes, this.picture, this.keyframes.lane);
    this.place.replaceChildren(html("h3", { textContent: "Sound and motion" }), track, this.#legend(), this.buttons, this.note);
    this.#showButtons();
    this.#showMarks();
  }

  #legend() {
    const shown = [["wave", "sound"], ["motion", "motion"], ["keyframe", "keyframes"]];
    if (this.settings.has("beats")) shown.push(["beat", "beats"]);
    const parts = shown.map(([name, text]) => html("li", { className: `key-${name}`, textContent: text }));
    return html("ul", { className: "legend" }, ...parts);
  }

  #showButtons() {
    const button = (text, onclick) => html("button", { type: "button", textContent: text, onclick });
    const reset = (name) => () => {
      this.settings.set(name, "");
      this.#showMarks();
      this.note.textContent = "";
    };
    this.buttons.replaceChildren(button("Keyframes by the motion", reset("keyframes")));
    if (this.settings.has("beats")) {
      const now = () => this.beats.add(this.video.currentTime || this.seconds / 2);
      this.buttons.append(button("Add a beat", now), button("Beats as heard", reset("beats")));
    }
  }

  /** Unsets beats where keyframes are given, and the other way round; says so. */
  #giveUpOther(name) {
    const other = name === "beats" ? "keyframes" : "beats";
    const isSet = (field) => this.settings.has(field) && !["", "auto"].includes(this.settings.get(field));
    if (!isSet(name) || !isSet(other)) return "";
    this.settings.set(other, "");
    if (other === "beats") this.#showBeats();
    else this.#showKeyframes();
    return `One excludes the other: ${other} are as the server finds them.`;
  }

  #showMarks() {
    this.#showKeyframes();
    this.#showBeats();
  }

  #showKeyframes() {
    const given = this.settings.get("keyframes");
    const fits = Math.round(this.seconds * this.model.fps) <= this.model.frames; // one segment
    const frames = given.includes(",") ? numbers(given) : fits ? (this.found?.keyframes ?? []) : [];
    this.keyframes.show(frames.filter(Number.isFinite));
  }

  #showBeats() {
    const beats = this.settings.get("beats");
    if (this.settings.has("beats")) this.beats.show(beats ? numbers(beats).filter(Number.isFinite) : []);
  }

  #draw() {
    const start = Number(this.settings.get("start")) || 0;
    const path = this.sound ? waveformPath(this.sound, start, this.seconds, WIDTH, HEIGHT) : "";
    this.wave.setAttribute("d", path);
  }
}

function beatsInWords(count) {
  if (!count) return "Beats as they are heard";
  return count === 1 ? "1 beat as you put it" : `${count} beats as you put them`;
}
