// Draws the blurred preview of an image from its ThumbHash (https://evanw.github.io/thumbhash/): the
// first coefficients of a cosine transform of lightness, two colours and opacity.

// A canvas with the preview, or null if `text` is none.
export function preview(text, width, height) {
  const hash = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  if (hash.length < 5) return null;
  const [across, down] = width > height ? [32, Math.max(1, Math.round(32 * height / width))]
    : [Math.max(1, Math.round(32 * width / height)), 32];
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: across, height: down, role: "img", ariaLabel: "A blurred preview of the image" });
  const context = canvas.getContext("2d");
  context.putImageData(new ImageData(pixels(hash, across, down), across, down), 0, 0);
  return canvas;
}

function pixels(hash, across, down) {
  const head = hash[0] | hash[1] << 8 | hash[2] << 16;
  const more = hash[3] | hash[4] << 8;
  const hasAlpha = head >> 23 & 1;
  const isWide = more >> 15;
  const long = hasAlpha ? 5 : 7;
  let at = hasAlpha ? 12 : 10;
  // The next coefficients of a channel, four bits each.
  const channel = (mean, columns, rows, scale) => {
    const terms = [];
    for (let row = 0; row < rows; row++) {
      for (let column = row ? 0 : 1; column * rows < columns * (rows - row); column++, at++) {
        terms.push([column, row, ((hash[at >> 1] >> ((at & 1) << 2) & 15) / 7.5 - 1) * scale]);
      }
    }
    return (x, y) => terms.reduce((sum, [column, row, factor]) => sum
      + 2 * factor * Math.cos(Math.PI / across * (x + 0.5) * column) * Math.cos(Math.PI / down * (y + 0.5) * row), mean);
  };
  const lightness = channel((head & 63) / 63, Math.max(3, isWide ? long : more & 7), Math.max(3, isWide ? more & 7 : long),
    (head >> 18 & 31) / 31);
  const yellow = channel((head >> 6 & 63) / 31.5 - 1, 3, 3, (more >> 3 & 63) / 63 * 1.25);
  const red = channel((head >> 12 & 63) / 31.5 - 1, 3, 3, (more >> 9 & 63) / 63 * 1.25);
  const opacity = hasAlpha ? channel((hash[5] & 15) / 15, 5, 5, (hash[5] >> 4) / 15) : () => 1;
  const data = new Uint8ClampedArray(across * down * 4);
  for (let y = 0, index = 0; y < down; y++) {
    for (let x = 0; x < across; x++, index += 4) {
      const [l, p, q] = [lightness(x, y), yellow(x, y), red(x, y)];
      const b = l - 2 / 3 * p;
      const r = (3 * l - b + q) / 2;
      data.set([255 * r, 255 * (r - q), 255 * b, 255 * opacity(x, y)], index);
    }
  }
  return data;
}
