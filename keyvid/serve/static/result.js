// Finished clips: the one that plays, and those that were made before it.

import { getBlob } from "./api.js";

const PARTS = ["clip", "report", "plot"];
const ENDINGS = { clip: "mp4", report: "json", plot: "png" };

const find = (id) => document.getElementById(id);

export class Result {
  /** `onShow(report)` when another clip is shown. */
  constructor(onShow) {
    this.onShow = onShow;
    this.clips = [];
    this.video = find("video");
    this.video.addEventListener("loadedmetadata", () => {
      find("stage").style.aspectRatio = `${this.video.videoWidth} / ${this.video.videoHeight}`;
    });
  }

  /** Keeps all that came of `job` here, so that nothing later takes it away, and plays it. */
  async add(job) {
    const blobs = await Promise.all(PARTS.map((part) => getBlob(job.links[part])));
    const report = JSON.parse(await blobs[1].text());
    const urls = Object.fromEntries(PARTS.map((part, i) => [part, URL.createObjectURL(blobs[i])]));
    const name = (report.prompt || "clip").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
    this.clips.push({ name, report, urls, remarks: job.remarks });
    this.show(this.clips.length - 1);
    find("stage").scrollIntoView({ block: "nearest" }); // on a phone it lies below the form
  }

  show(index) {
    const { name, report, urls, remarks } = this.clips[index];
    find("stage-hint").hidden = true;
    this.video.hidden = false;
    this.video.setAttribute("aria-label", `Clip ${index + 1}: ${report.prompt || "without a prompt"}`);
    this.video.src = urls.clip;
    this.video.play().catch(() => {}); // the browser may want a click first
    for (const part of PARTS) {
      const download = `keyvid-${name}-${index + 1}.${ENDINGS[part]}`;
      Object.assign(find(`get-${part}`), { href: urls[part], download });
    }
    const items = remarks.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
    find("remarks").replaceChildren(...items);
    find("after").hidden = false;
    this.#showShelf(index);
    this.onShow(report);
  }

  #showShelf(shown) {
    const shelf = find("shelf");
    shelf.hidden = this.clips.length < 2;
    shelf.replaceChildren(
      ...this.clips.map(({ report }, index) => {
        const button = document.createElement("button");
        Object.assign(button, { type: "button", textContent: `Clip ${index + 1}` });
        button.title = `${report.prompt || "no prompt"}, seed ${report.seed}`;
        button.setAttribute("aria-pressed", index === shown);
        button.addEventListener("click", () => this.show(index));
        return button;
      }),
    );
  }
}
