// Lists of somebody's images, as /mine and /wallet show them: templates/shelf.html.

import { forms } from "./copy.js";
import { byId, make } from "./dom.js";
import { say } from "./say.js";
import { dateInWords, sizeInWords, timeLeft } from "./words.js";

/**
 * What a list shows of an image.
 * @typedef {object} Shown
 * @property {string} id
 * @property {string} url
 * @property {string} [pageUrl]
 * @property {string} contentType
 * @property {number} bytes
 * @property {number} width
 * @property {number} height
 * @property {Record<string, string>} [sizes]
 * @property {string} [dominantColor]
 * @property {string} tier
 * @property {string | null} expiresAt
 * @property {string} visibility
 */

/** What an image is, in words. @param {Shown} image @returns {string} */
export function titleOf({ contentType, width, height }) {
  const kind = contentType.replace("image/", "");
  return `${kind === "webp" ? "WebP" : kind.toUpperCase()} image, ${width} × ${height}`;
}

/** Whether an image has expired. @param {Shown} image */
export const isOver = ({ expiresAt }) => expiresAt !== null && Date.parse(expiresAt) <= Date.now();

/**
 * An entry of the list.
 * @param {Shown} image
 * @param {{extra?: string, acts: HTMLElement[], lost?: (entry: HTMLElement) => void}} options `extra` is one more fact, and
 * `lost` is called if the thumbnail can't be loaded
 * @returns {HTMLElement}
 */
export function entryOf(image, { extra, acts, lost }) {
  const template = /** @type {HTMLTemplateElement} */ (byId("item"));
  const entry = /** @type {HTMLElement} */ (template.content.cloneNode(true).firstElementChild);
  entry.dataset.id = image.id;
  const page = image.pageUrl ?? image.url;
  const [thumb, name, facts] = ["a.thumb", "a.name", "p"].map((part) => /** @type {any} */ (entry.querySelector(part)));
  const picture = thumb.firstElementChild;
  if (image.dominantColor) thumb.style.backgroundColor = image.dominantColor;
  // The picture and the name lead to the same page: one of them is enough for a keyboard.
  Object.assign(thumb, { href: page, tabIndex: -1, ariaHidden: "true" });
  if (isOver(image)) entry.classList.add("gone");
  else {
    if (lost) picture.addEventListener("error", () => lost(entry), { once: true });
    picture.src = image.sizes?.s ?? image.url;
  }
  Object.assign(name, { href: page, textContent: titleOf(image) });
  const left = make("time", { dateTime: image.expiresAt ?? "", title: image.expiresAt ? dateInWords(image.expiresAt) : "" }, timeLeft(image.expiresAt));
  const more = [sizeInWords(image.bytes), image.tier, image.visibility === "private" && "private", extra].filter(Boolean);
  facts.append(left, ` · ${more.join(" · ")}`);
  byActs(entry).append(...acts);
  return entry;
}

/** @param {HTMLElement} entry @returns {HTMLElement} the place of an entry's buttons */
export const byActs = (entry) => /** @type {HTMLElement} */ (entry.querySelector(".acts"));

/** A button that copies the link of an image. @param {Shown} image */
export const copyButton = (image) => make("button", { type: "button", "data-copy": forms(image).url, "aria-label": `Copy link: ${titleOf(image)}, ${image.id}` }, "Copy link");

/**
 * A button that carries out an act on an image, and takes no second press meanwhile.
 * @param {string} text
 * @param {Shown} image
 * @param {() => unknown} act
 * @param {string} [className]
 * @returns {HTMLElement}
 */
export function actButton(text, image, act, className = "") {
  const button = make("button", { type: "button", className, "aria-label": `${text}: ${titleOf(image)}, ${image.id}` }, text);
  return onPress(button, act);
}

/**
 * Carries out an act when a button is pressed. The button keeps the focus, and takes no second press until the act is over.
 * @param {HTMLElement} button
 * @param {() => unknown} act
 * @returns {HTMLElement} the button
 */
export function onPress(button, act) {
  button.addEventListener("click", async () => {
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    try {
      await act();
    } finally {
      button.ariaDisabled = null;
    }
  });
  return button;
}

/**
 * Takes an entry out of the list. The focus goes to the next entry, or to the title.
 * @param {HTMLElement} entry
 */
export function takeOut(entry) {
  const next = entry.nextElementSibling ?? entry.previousElementSibling;
  entry.remove();
  const focus = next?.querySelector("a.name") ?? byId("title");
  /** @type {HTMLElement} */ (focus).focus();
}

/** Shows what went wrong, or nothing. @param {string | null} message */
export function alertWith(message) {
  const alert = byId("alert");
  alert.hidden = message === null;
  alert.textContent = message ?? "";
  if (message !== null) alert.scrollIntoView({ block: "nearest" });
}

/**
 * Opens the dialog of the page, and closes it with a button, the Escape key or the act.
 * @param {{title: string, body: (Node | string)[], act?: string, isDanger?: boolean, close: string}} text
 * @returns {Promise<boolean>} whether the act was chosen
 */
export function ask({ title, body, act, isDanger = false, close }) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("dialog"));
  const [doing, closing] = [byId("dialog-do"), byId("dialog-close")];
  byId("dialog-title").textContent = title;
  byId("dialog-body").replaceChildren(...body);
  Object.assign(doing, { hidden: !act, textContent: act ?? "", className: isDanger ? "danger" : "main" });
  closing.textContent = close;
  dialog.returnValue = "";
  return new Promise((resolve) => {
    doing.onclick = () => dialog.close("do");
    closing.onclick = () => dialog.close("");
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "do"), { once: true });
    dialog.showModal();
    // What is destroyed needs one more key than Enter.
    closing.focus();
  });
}

/** Asks whether an image is to be deleted. @param {Shown} image @returns {Promise<boolean>} */
export function askToDelete(image) {
  const picture = make("figure", { className: "plate small-plate" }, make("img", { src: image.sizes?.s ?? image.url, alt: titleOf(image), width: image.width, height: image.height }));
  return ask({
    title: "Delete this image?",
    body: [picture, make("p", {}, "Its link shows nothing afterwards, for nobody. This can’t be undone, and what was paid is not returned.")],
    act: "Delete for good", isDanger: true, close: "Keep it",
  });
}

/** Says that an image is deleted. */
export const sayDeleted = () => say("The image is deleted.");
