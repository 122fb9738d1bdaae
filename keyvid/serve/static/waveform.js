// What a sound looks like: its loudest samples, column by column.

const COLUMNS = 500;

/** Samples of `file`, or null where the browser cannot read it. */
export async function decode(file) {
  const context = new AudioContext();
  try {
    return await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    return null;
  } finally {
    context.close();
  }
}

/** An SVG path of `seconds` from `start` on, in a box of `width` x `height`. */
export function waveformPath(sound, start, seconds, width, height) {
  const samples = sound.getChannelData(0);
  const perColumn = (seconds * sound.sampleRate) / COLUMNS;
  const first = start * sound.sampleRate;
  const peaks = Array.from({ length: COLUMNS }, (_, column) => {
    const from = Math.floor(first + column * perColumn);
    let peak = 0;
    for (let i = from; i < Math.min(from + perColumn, samples.length); i++) {
      peak = Math.max(peak, Math.abs(samples[i]));
    }
    return peak;
  });
  const loudest = Math.max(...peaks, 0.01);
  const line = (sign) => (peak, column) => {
    const x = ((column + 0.5) / COLUMNS) * width;
    return `${x.toFixed(1)},${(height / 2 - (sign * peak * height) / loudest / 2.1).toFixed(1)}`;
  };
  return `M${peaks.map(line(1)).join("L")}L${peaks.map(line(-1)).reverse().join("L")}Z`;
}
