// Buttons that copy, and the forms in which an image is passed on.
//
// A button with `data-copy="TEXT"` copies TEXT; one with `data-copy-from="ID"` copies the value or text of that element.

import { say } from "./say.js";

/** How long a button says that it copied, in milliseconds. */
const CONFIRMED = 2000;

/**
 * The forms in which people paste an image.
 * @param {{url: string, width?: number, height?: number}} image
 * @returns {{url: string, markdown: string, html: string, bbcode: string}}
 */
export function forms({ url, width, height }) {
  const source = url.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
  const size = width && height ? ` width="${width}" height="${height}"` : "";
  return { url, markdown: `![](${url})`, html: `<img src="${source}"${size} alt="">`, bbcode: `[img]${url}[/img]` };
}

/**
 * Copies a text to the clipboard.
 * @param {string} text
 * @returns {Promise<boolean>} whether it is there
 */
export async function copy(text) {
  try {
    // Pages without HTTPS have no clipboard API.
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // The browser refused; the older way may work.
  }
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.readOnly = true;
  area.className = "unseen";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  return copied;
}

/** @param {HTMLElement} button */
async function press(button) {
  const source = button.dataset.copyFrom ? document.getElementById(button.dataset.copyFrom) : null;
  const text = source ? (source instanceof HTMLInputElement ? source.value : source.textContent ?? "") : button.dataset.copy ?? "";
  if (await copy(text)) {
    const label = button.dataset.label ?? button.textContent ?? "";
    button.dataset.label = label;
    button.textContent = "Copied";
    say(`Copied: ${(button.getAttribute("aria-label") ?? label).replace(/^Copy /, "")}`);
    setTimeout(() => { button.textContent = label; }, CONFIRMED);
    return;
  }
  if (source instanceof HTMLInputElement) source.select();
  say("The browser did not copy the text. Select it and copy it yourself.");
}

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy], [data-copy-from]") : null;
  if (button instanceof HTMLElement) press(button);
});
