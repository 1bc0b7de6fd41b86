// What stands in the place of a picture until it is loaded: its blurred preview, or its main colour.

import { preview } from "./console/thumbhash.js";

/** @param {HTMLImageElement} image with `data-thumbhash` or `data-colour` */
export function placehold(image) {
  // A variant that can't be made now is no reason to show nothing.
  image.addEventListener("error", () => image.removeAttribute("srcset"));
  const { thumbhash, colour } = image.dataset;
  if (image.complete || !(thumbhash || colour)) return;
  // Its own properties are those of the layout, which may not be there yet.
  const [width, height] = ["width", "height"].map((side) => Number(image.getAttribute(side)));
  const blurred = thumbhash ? preview(thumbhash, width, height) : null;
  image.classList.add("waits");
  if (blurred) image.style.backgroundImage = `url("${blurred.toDataURL()}")`;
  else image.style.backgroundColor = colour ?? "";
  image.addEventListener("load", () => {
    image.classList.remove("waits");
    image.removeAttribute("style");
  }, { once: true });
}
