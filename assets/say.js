// Says a sentence to screen readers.

/** The region that is read out. It has to be in the page before its text changes. */
const region = document.createElement("p");
region.className = "unseen";
region.setAttribute("role", "status");
document.body.append(region);

/** @param {string} text */
export function say(text) {
  // The same text twice would not be read again.
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}
