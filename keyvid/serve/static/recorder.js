// A sound from the microphone.

// As it is heard: what is made for speech would take the beats out.
const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** Makes `button` record and stop; `onRecorded(file)` gets what was heard, `most` seconds of it. */
export function setUpRecorder(button, note, most, onRecorded) {
  if (!navigator.mediaDevices || !window.MediaRecorder) {
    button.disabled = true;
    note.textContent = window.isSecureContext
      ? "This browser does not record."
      : "Browsers record on https and localhost only.";
    return;
  }
  let recorder = null;
  const stop = () => recorder?.state === "recording" && recorder.stop();

  async function start() {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: PLAIN });
    } catch (error) {
      note.textContent = `No microphone: ${error.message}. Allow it in the browser, or choose a file.`;
      return;
    }
    const parts = [];
    const began = performance.now();
    const tell = () => {
      note.textContent = `Recording: ${((performance.now() - began) / 1000).toFixed(1)} s`;
    };
    const ticking = setInterval(tell, 100);
    const ending = setTimeout(stop, most * 1000);
    recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    recorder.addEventListener("stop", () => {
      clearInterval(ticking);
      clearTimeout(ending);
      stream.getTracks().forEach((track) => track.stop());
      note.textContent = "";
      button.textContent = "Record";
      const type = recorder.mimeType.split(";")[0];
      onRecorded(new File(parts, `recording.${type.split("/")[1]}`, { type }));
    });
    recorder.start();
    button.textContent = "Stop";
  }

  button.addEventListener("click", () => (recorder?.state === "recording" ? stop() : start()));
}
