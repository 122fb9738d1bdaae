// The documented interface: all that this page asks of the server.

export class Refusal extends Error {}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refusal("The server cannot be reached; see whether it runs, and try again.");
  }
  if (response.ok) return response;
  const content = await response.json().catch(() => ({}));
  throw new Refusal(content.detail ?? `The server answers ${response.status}.`);
}

export const getJson = async (path) => (await ask(path)).json();
export const getBlob = async (path) => (await ask(path)).blob();
export const placeOrder = async (form) => (await ask("clips", { method: "POST", body: form })).json();
export const findJob = (id) => getJson(`clips/${encodeURIComponent(id)}`);
export const discard = (job) => ask(job.links.self, { method: "DELETE" });

/** The fields of an order by name, as the server describes them. */
export async function getFields() {
  const { paths } = await getJson("openapi.json");
  const { schema } = paths["/clips"].post.requestBody.content["multipart/form-data"];
  return schema.properties;
}

/** The job when it has ended; `onProgress(job)` meanwhile, `onSilence()` while it is not heard of. */
export function watch(job, { onProgress, onSilence, signal }) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(job.links.events);
    signal.addEventListener("abort", () => events.close());
    events.addEventListener("progress", ({ data }) => onProgress(JSON.parse(data)));
    for (const state of ["done", "failed", "cancelled"]) {
      events.addEventListener(state, ({ data }) => {
        events.close();
        resolve(JSON.parse(data));
      });
    }
    events.addEventListener("error", () => {
      if (events.readyState !== EventSource.CLOSED) return onSilence(); // it connects again itself
      return getJson(job.links.self).then(
        () => reject(new Refusal("The server no longer tells how far the clip is; load the page again.")),
        reject,
      );
    });
  });
}
