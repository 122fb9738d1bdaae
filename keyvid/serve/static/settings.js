// The fields of an order, made from their description in the server's OpenAPI document.

const FIRST = ["prompt", "seed", "quality"];
const FILES = ["image", "audio"];
const OF_CLIP = ["start", "length", "track", "fit", "position", "scale", "end", "keyframes", "beats", "motion"];
const ALONE = "interpolator-";
const LABELS = { "cfg-batch": "Batch of guidance" };

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

export class Settings {
  /** Shows `fields` in `first` and `more`, and what is wrong with one beside it. */
  constructor(fields, first, more) {
    this.names = Object.keys(fields);
    const names = this.names.filter((name) => !FILES.includes(name));
    const groupOf = (name) => {
      if (FIRST.includes(name)) return "";
      if (OF_CLIP.includes(name)) return "Clip";
      return name.startsWith(ALONE) ? "Interpolator alone" : "Sampling";
    };
    first.append(...FIRST.filter((n) => n in fields).map((n) => showField(n, fields[n])));
    for (const group of ["Clip", "Sampling", "Interpolator alone"]) {
      const members = names.filter((name) => groupOf(name) === group);
      const set = make("fieldset", {}, make("legend", { textContent: group }));
      set.append(make("div", { className: "fields" }, ...members.map((n) => showField(n, fields[n]))));
      more.append(set);
    }
  }

  has(name) {
    return this.names.includes(name);
  }

  input(name) {
    return document.getElementById(name);
  }

  get(name) {
    return this.input(name)?.value.trim() ?? "";
  }

  set(name, value) {
    this.input(name).value = value;
    this.clearError(name);
  }

  /** Adds what is filled in to `form`. */
  fill(form) {
    for (const name of this.names.filter((n) => !FILES.includes(n))) {
      if (this.get(name)) form.append(name, this.get(name));
    }
  }

  /** Shows `message` at the field that it speaks of; false where it speaks of none. */
  showError(message) {
    const name = this.fieldOf(message);
    if (!name) return false;
    const input = this.input(name);
    input.closest("details")?.setAttribute("open", "");
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", `${name}-error`);
    document.getElementById(`${name}-error`).textContent = message;
    input.focus();
    return true;
  }

  clearError(name) {
    const error = document.getElementById(`${name}-error`);
    if (!error?.textContent) return;
    error.textContent = "";
    this.input(name).removeAttribute("aria-invalid");
  }

  clearErrors() {
    this.names.forEach((name) => this.clearError(name));
  }

  fieldOf(message) {
    const [subject, cause = ""] = message.split(/[:;,]/, 2);
    const named = this.names.find((name) => cause.startsWith(` ${name} is `)); // "the sound: start is 99 s"
    if (named) return named;
    if (/picture|file image/.test(subject)) return "image";
    if (/sound|file audio/.test(subject)) return "audio";
    const said = this.names.filter((name) => new RegExp(`(^| )${name}( |$)`).test(subject));
    return said.sort((a, b) => b.length - a.length)[0];
  }
}

function showField(name, field) {
  const label = LABELS[name] ?? sentence(name.replace(ALONE, "").replaceAll("-", " "));
  const input = field.enum ? makeChoice(field) : makeInput(field);
  Object.assign(input, { id: name, name });
  const note = `${name}-note`;
  input.setAttribute("aria-describedby", note);
  const error = make("p", { className: "error", id: `${name}-error` });
  input.addEventListener("input", () => {
    error.textContent = "";
    input.removeAttribute("aria-invalid");
  });
  return make(
    "div",
    { className: `field field-${name}` },
    make("label", { htmlFor: name, textContent: label }),
    input,
    make("p", { className: "note", id: note, textContent: sentence(field.description) }),
    error,
  );
}

function makeChoice({ enum: choices, default: unasked }) {
  const first = make("option", { value: "", textContent: unasked ?? "As memory allows" });
  const others = choices.filter((choice) => choice !== unasked);
  return make("select", {}, first, ...others.map((c) => make("option", { value: c, textContent: c })));
}

function makeInput({ type, default: unasked, maxLength }) {
  const input = make("input", { type: "text", autocomplete: "off", spellcheck: false });
  if (type !== "string") input.inputMode = type === "integer" ? "numeric" : "decimal";
  if (maxLength) input.maxLength = maxLength;
  if (unasked !== undefined) input.placeholder = String(unasked);
  return input;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
