// The picture of a case or an image. Nothing but its blurred preview is shown until the operator
// reveals it; then the server hands out the content, and writes that into the log.

import { view } from "./api.js";
import { keyed } from "./keys.js";
import { button, h, show, whisper } from "./page.js";
import { preview } from "./thumbhash.js";

export class Picture {
  #image;
  #why;
  #url = null;
  #isCovered = true;
  #frame = h("div", { class: "frame" });
  #toggle;

  // `why` is the reason that the log holds.
  constructor(image, why) {
    this.#image = image;
    this.#why = why;
    this.#toggle = button(keyed("Reveal", " "), () => this.toggle(), { class: "reveal" });
    this.element = h("figure", { class: "picture" }, this.#frame,
      h("figcaption", {}, this.#toggle,
        h("span", { class: "quiet" }, "Not loaded yet. The log notes who reveals it.")));
    const blurred = image.thumbhash && preview(image.thumbhash, image.width, image.height);
    show(this.#frame, blurred || h("p", { class: "quiet" }, "No preview"));
  }

  // Reveals the picture, or covers it again.
  async toggle() {
    if (this.#url === null && !(await this.#load())) return;
    this.#isCovered = !this.#isCovered;
    this.#frame.classList.toggle("covered", this.#isCovered);
    show(this.#toggle, keyed(this.#isCovered ? "Reveal" : "Cover", " "));
    whisper(this.#isCovered ? "The image is covered." : "The image is revealed.");
  }

  async #load() {
    const note = this.element.querySelector(".quiet:last-child");
    note.textContent = "Loading…";
    let content;
    try {
      content = await view(this.#image.id, this.#why);
    } catch (error) {
      note.textContent = error.message;
      return false;
    }
    this.#url = URL.createObjectURL(content);
    const alt = `The image ${this.#image.id}, as it was uploaded`;
    show(this.#frame, h("img", { src: this.#url, alt, width: this.#image.width, height: this.#image.height }));
    note.textContent = "In this tab only.";
    return true;
  }

  // Forgets the content.
  leave() {
    if (this.#url !== null) URL.revokeObjectURL(this.#url);
    this.#url = null;
  }
}
