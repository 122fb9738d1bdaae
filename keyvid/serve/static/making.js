// A clip in the making: its place in the queue, how far it is, and the way to cancel it.

import { discard, Refusal, watch } from "./api.js";

const find = (id) => document.getElementById(id);

export class Making {
  constructor() {
    find("cancel").addEventListener("click", () => this.cancel());
  }

  /** The job when it is done; null where it was cancelled.
   *
   * place(): gives the job that is ordered.
   */
  async follow(place) {
    this.stopped = new AbortController();
    this.#show(true);
    this.#say("Your order is sent.");
    try {
      this.job = await place();
      history.replaceState(null, "", `#${this.job.id}`); // a page that is loaded again finds it
      this.began = performance.now();
      const cancelled = new Promise((resolve) => {
        this.stopped.signal.addEventListener("abort", () => resolve(null));
        if (this.stopped.signal.aborted) resolve(null);
      });
      this.#tell(this.job);
      const ended = await Promise.race([cancelled, this.#watch()]);
      if (ended === null || ended.state === "cancelled") return null;
      if (ended.state === "failed") throw new Refusal(ended.error);
      this.#say("The clip is ready.");
      return ended;
    } finally {
      this.#show(false);
    }
  }

  get isWorking() {
    return find("make").getAttribute("aria-disabled") === "true";
  }

  async cancel() {
    this.stopped.abort();
    if (this.job) await discard(this.job).catch(() => {}); // it may have ended meanwhile
    history.replaceState(null, "", location.pathname);
    this.#say("Cancelled.");
    find("make").focus();
  }

  #watch() {
    return watch(this.job, {
      onProgress: (job) => this.#tell(job),
      onSilence: () => (find("how-far").textContent = "The server is not heard of; trying again."),
      signal: this.stopped.signal,
    });
  }

  #show(isWorking) {
    find("progress").hidden = find("cancel").hidden = !isWorking;
    find("make").setAttribute("aria-disabled", isWorking); // disabled, it would lose the focus
    find("bar").removeAttribute("value");
    find("how-far").textContent = "";
    if (isWorking) this.job = undefined;
  }

  #tell({ state, before, progress }) {
    if (state === "queued") {
      const others = before === 1 ? "1 clip is made" : `${before} clips are made`;
      find("how-far").textContent = before ? `Waiting: ${others} before yours.` : "Yours is next.";
      return this.#say(find("how-far").textContent);
    }
    const left = progress.seconds_left;
    const words = progress.stage ? [progress.stage.replaceAll("_", " ")] : ["begins"];
    if (progress.num_segments > 1) words.unshift(`part ${progress.segment + 1} of ${progress.num_segments}`);
    if (progress.num_steps > 1) words.push(`step ${progress.step} of ${progress.num_steps}`);
    if (left !== null) {
      const spent = (performance.now() - this.began) / 1000;
      find("bar").value = spent / (spent + left);
      words.push(`about ${left < 90 ? `${Math.ceil(left)} s` : `${Math.round(left / 60)} min`} left`);
    }
    find("how-far").textContent = `Being made: ${words.join(", ")}.`;
    return this.#say("Being made.");
  }

  /** For ears: only what is new. */
  #say(text) {
    if (find("live").textContent !== text) find("live").textContent = text;
  }
}
