// Signed links to private images.

import { make } from "./dom.js";
import { dateInWords } from "./words.js";

/**
 * A signed link to show.
 * @param {{url: string, expiresAt: string}} answer the answer of POST /api/images/{id}/links
 * @returns {HTMLElement[]}
 */
export function linkOf({ url, expiresAt }) {
  const field = make("input", { id: "signed-link", readOnly: true, value: url, spellcheck: false });
  return [
    make("p", { className: "notice" }, `Whoever has this link sees the image, until ${dateInWords(expiresAt)}.`),
    make("label", { htmlFor: field.id }, "New link"),
    make("p", { className: "link-made" }, field, make("button", { type: "button", "data-copy": url, "aria-label": "The new link" }, "Copy")),
  ];
}
