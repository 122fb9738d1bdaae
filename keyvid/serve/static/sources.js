// Picture and sound: chosen, dropped, pasted, recorded or of an example.

const NOUNS = { image: "picture", audio: "sound" };

export class Source {
  /** The well of `kind`, "image" or "audio"; `onChange()` when its file is another. */
  constructor(kind, onChange) {
    this.kind = kind;
    this.file = null;
    this.onChange = onChange;
    this.well = document.getElementById(`${kind}-well`);
    this.preview = this.well.querySelector(".preview");
    const input = document.getElementById(kind);
    input.addEventListener("change", () => {
      if (input.files.length) this.take(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
  }

  take(file) {
    this.file = file;
    URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(file);
    const view = this.kind === "image" ? this.#picture() : this.#sound();
    view.addEventListener("error", () => this.#say(`${file.name}: the browser cannot show it, the server may.`));
    this.preview.replaceChildren(view);
    this.onChange(this);
  }

  #picture() {
    return Object.assign(new Image(), { src: this.url, alt: `Picture: ${this.file.name}` });
  }

  #sound() {
    const sound = Object.assign(document.createElement("audio"), { controls: true, src: this.url });
    sound.setAttribute("aria-label", `Sound: ${this.file.name}`);
    return sound;
  }

  #say(text) {
    const note = Object.assign(document.createElement("p"), { textContent: text });
    this.preview.replaceChildren(note);
  }
}

/** Lets files be dropped and pasted anywhere; a well that is aimed at takes what has no known kind. */
export function takeFiles({ image, audio }, onStranger) {
  const sort = (files, target) => {
    const aimed = [image, audio].find(({ well }) => well.contains(target));
    for (const file of files) {
      const known = file.type.startsWith("image/") ? image : /^(audio|video)\//.test(file.type) && audio;
      const source = known || aimed;
      if (source) source.take(file);
      else onStranger(`${file.name}: neither a ${NOUNS.image} nor a ${NOUNS.audio}; choose another file`);
    }
  };
  const light = (event, isOver) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", isOver);
  };
  document.addEventListener("dragover", (event) => light(event, true));
  document.addEventListener("dragleave", (event) => light(event, event.relatedTarget !== null));
  document.addEventListener("drop", (event) => {
    light(event, false);
    sort(event.dataTransfer.files, event.target);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) event.preventDefault();
    sort(event.clipboardData.files, event.target);
  });
}
