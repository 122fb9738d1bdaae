// The page: puts its parts together.

import { findJob, getFields, getJson, placeOrder } from "./api.js";
import { showExamples } from "./examples.js";
import { Making } from "./making.js";
import { setUpRecorder } from "./recorder.js";
import { Result } from "./result.js";
import { Settings } from "./settings.js";
import { Source, takeFiles } from "./sources.js";
import { Timeline } from "./timeline.js";

const find = (id) => document.getElementById(id);

async function start() {
  const [fields, model] = await Promise.all([getFields(), getJson("model")]);
  const settings = new Settings(fields, find("main-fields"), find("more-fields"));
  const result = new Result((report) => timeline.tell(report));
  const timeline = new Timeline(find("timeline"), settings, model, result.video);
  const making = new Making();
  describe(model);

  const sources = {
    image: new Source("image", () => settings.clearError("image")),
    audio: new Source("audio", ({ file }) => {
      settings.clearError("audio");
      timeline.hear(file);
    }),
  };
  takeFiles(sources, showProblem);
  setUpRecorder(find("record"), find("record-note"), model.most_seconds, (file) => sources.audio.take(file));
  let choosing = Promise.resolve(); // an example that is on its way is waited for
  showExamples(find("examples"), (example) => {
    choosing = example.then(({ image, audio, prompt }) => {
      sources.image.take(image);
      sources.audio.take(audio);
      settings.set("prompt", prompt);
    }, fail);
  }).catch(fail);

  function fail(error) {
    if (settings.showError(error.message)) find("alert").textContent = error.message;
    else showProblem(error.message);
  }

  async function run(place) {
    settings.clearErrors();
    showProblem("");
    try {
      const job = await making.follow(place);
      if (job) await result.add(job);
    } catch (error) {
      fail(error);
    }
  }

  find("order").addEventListener("submit", async (event) => {
    event.preventDefault();
    await choosing;
    if (making.isWorking) return;
    const missing = ["audio", "image"].filter((kind) => !sources[kind].file);
    if (missing.length) {
      settings.clearErrors();
      missing.forEach((kind) => fail(new Error(`There is no ${kind === "image" ? "picture" : "sound"}; choose one, or an example.`)));
      return;
    }
    const form = new FormData();
    form.append("image", sources.image.file);
    form.append("audio", sources.audio.file);
    settings.fill(form);
    timeline.note.textContent = ""; // what it asks for is done
    run(() => placeOrder(form));
  });

  if (location.hash) {
    findJob(location.hash.slice(1)).then(
      (job) => run(async () => job),
      () => history.replaceState(null, "", location.pathname), // it is gone: a fresh page
    );
  }
}

/** Says what went wrong until something else is tried; what is finished stays. */
function showProblem(message) {
  find("order-error").textContent = message;
  find("alert").textContent = message;
}

function describe({ name, width, height, frames, fps, keep_seconds: kept }) {
  const time = kept < 7200 ? `${Math.round(kept / 60)} minutes` : `${Math.round(kept / 3600)} hours`;
  find("facts").textContent =
    `Model ${name}: ${width} × ${height} pixels, ${frames / fps} s unless you ask for more. ` +
    `Pictures and sounds go to this server alone, which keeps clips for ${time}.`;
}

start().catch((error) => showProblem(error.message));
