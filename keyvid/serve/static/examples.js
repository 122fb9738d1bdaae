// The server's examples, as buttons with their picture.

import { getBlob, getJson } from "./api.js";

/** Shows them in `place`; a click gives `onChoice` a promise of {image, audio, prompt}, with files. */
export async function showExamples(place, onChoice) {
  for (const example of await getJson("examples")) {
    const picture = Object.assign(new Image(), {
      src: example.image,
      alt: `Example picture: a drawn ${example.name}`,
    });
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(picture, Object.assign(document.createElement("span"), { textContent: example.name }));
    button.addEventListener("click", () => onChoice(fetchExample(example)));
    place.append(button);
  }
}

async function fetchExample({ prompt, ...paths }) {
  const [image, audio] = await Promise.all(
    [paths.image, paths.audio].map(async (path) => {
      const blob = await getBlob(path);
      return new File([blob], path.split("/").pop(), { type: blob.type });
    }),
  );
  return { image, audio, prompt };
}
