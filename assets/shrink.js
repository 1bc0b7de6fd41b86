// Makes a picture smaller, so that it fits a tier: in pixels where it must, never in another aspect ratio.

/** The most pixels of a canvas that every browser draws. */
const MOST_PIXELS = 16_000_000;
/** The quality of the smaller picture, as browsers count it. */
const QUALITY = 0.86;
/** How often another size is tried. */
const TRIES = 8;

/** Whether a picture of this type can be made smaller. An animation would lose its frames. @param {File} file */
export const isShrinkable = ({ type }) => ["image/png", "image/jpeg", "image/webp"].includes(type);

/**
 * Makes a smaller copy of a picture, upright as it is shown.
 * @param {File} file
 * @param {number} most its largest size in bytes
 * @returns {Promise<{file: File, width: number, height: number} | null>} null: this browser can't read or write the picture
 */
export async function shrink(file, most) {
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) return null;
  try {
    let scale = Math.min(1, Math.sqrt(MOST_PIXELS / (picture.width * picture.height)));
    for (let tries = 0; tries < TRIES; tries++) {
      const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
      const blob = await drawn(picture, width, height, file.type);
      if (!blob) return null;
      if (blob.size <= most) return { file: new File([blob], nameFor(file.name, blob.type), { type: blob.type, lastModified: file.lastModified }), width, height };
      // The size in bytes falls a little slower than the number of pixels.
      scale *= Math.min(0.9, 0.95 * Math.sqrt(most / blob.size));
    }
    return null;
  } finally {
    picture.close();
  }
}

/**
 * A picture of this size as a file: a photograph stays JPEG, and others, which may be transparent, become WebP, or PNG where
 * the browser writes no WebP.
 * @param {ImageBitmap} picture @param {number} width @param {number} height @param {string} type
 * @returns {Promise<Blob | null>}
 */
function drawn(picture, width, height, type) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  if (!context) return Promise.resolve(null);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return new Promise((resolve) => canvas.toBlob(resolve, type === "image/jpeg" ? type : "image/webp", QUALITY));
}

/** @param {string} name @param {string} type */
const nameFor = (name, type) => `${name.replace(/\.[^.]*$/, "")}.${type === "image/jpeg" ? "jpg" : type.replace("image/", "")}`;
