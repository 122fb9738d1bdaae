// The server's examples, as buttons with their picture.

import { getBlob, getJson } from "./api.js";

/** Shows them in `place`; `onChoice({image, audio, prompt})` gets files when one is clicked on. */
export async function showExamples(place, onChoice) {
  for (const example of await getJson("examples")) {
    const picture = Object.assign(new Image(), {
      src: example.image,
      alt: `Example picture: a drawn ${example.name}`,
    });
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(picture, Object.assign(document.createElement("span"), { textContent: example.name }));
    button.addEventListener("click", async () => {
      const [image, audio] = await Promise.all(
        ["image", "audio"].map(async (kind) => {
          const blob = await getBlob(example[kind]);
          return new File([blob], example[kind].split("/").pop(), { type: blob.type });
        }),
      );
      onChoice({ image, audio, prompt: example.prompt });
    });
    place.append(button);
  }
}
