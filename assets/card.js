// The card of an uploaded image: the picture, the forms to pass it on, and deletion.

import { NoAnswer, messageOf, send } from "./api.js";
import { forms } from "./copy.js";
import { make } from "./dom.js";
import { say } from "./say.js";
import { forget } from "./uploads.js";
import { dateInWords, sizeInWords, timeLeft } from "./words.js";

let cards = 0;

/**
 * @param {any} answer the answer of the API to the upload
 * @param {{name: string, picture: string | null, paid: string | null, isKept: boolean}} about the name of the file, a URL of the
 * picture that needs no request, the price if it was paid for, and whether the browser keeps the delete token
 * @returns {HTMLElement}
 */
export function cardOf(answer, { name, picture, paid, isKept }) {
  const number = ++cards;
  const texts = forms(answer);
  const facts = [`${answer.width} × ${answer.height} pixels`, sizeInWords(answer.sizeBytes), answer.visibility === "private" && "private", paid && `paid ${paid}`];
  const removed = answer.removed?.length ? `Removed: ${answer.removed.join(", ")}.` : "";
  const left = make("time", { dateTime: answer.expiresAt ?? "" }, timeLeft(answer.expiresAt));
  if (answer.expiresAt) left.title = dateInWords(answer.expiresAt);
  const copyButton = (/** @type {string} */ label, /** @type {string} */ text) => make("button", { type: "button", "data-copy": text }, label);
  const url = make("input", { id: `url-${number}`, readOnly: true, value: answer.url, spellcheck: false, "aria-label": `Link of ${name}` });
  const card = make("article", { className: "result", "aria-labelledby": `card-${number}` },
    make("a", { className: "result-picture", href: answer.url, target: "_blank", rel: "noopener" },
      make("img", { src: picture ?? answer.url, alt: `The uploaded image ${name}`, width: answer.width, height: answer.height })),
    make("div", { className: "result-facts" },
      make("h3", { id: `card-${number}` }, make("bdi", {}, name)),
      make("p", { className: "small soft" }, facts.filter(Boolean).join(", "), ". ", left, ". ", removed),
      answer.visibility === "private" && make("p", { className: "small soft" }, `This link shows the image until ${dateInWords(answer.linkExpiresAt)}.`),
      make("p", { className: "copy-row" }, url, make("button", { type: "button", className: "main", "data-copy": answer.url }, "Copy link")),
      make("p", { className: "row" }, copyButton("Markdown", texts.markdown), copyButton("HTML", texts.html), copyButton("BBCode", texts.bbcode),
        answer.pageUrl && make("a", { className: "button", href: answer.pageUrl, target: "_blank", rel: "noopener" }, "Open page"),
        answer.deleteUrl && copyButton("Deletion link", answer.deleteUrl),
        answer.deleteToken && deleteButton(answer, () => card.remove())),
      answer.deleteToken && !isKept && make("p", { className: "notice bad" },
        "This browser has no room for what deletes this image. Copy its ", answer.deleteUrl ? "deletion link" : `delete token: ${answer.deleteToken}`, " now.")));
  url.addEventListener("focus", () => url.select());
  return card;
}

/**
 * A button that deletes the image, after a second press.
 * @param {Record<string, any>} answer
 * @param {() => void} deleted
 */
function deleteButton(answer, deleted) {
  const button = make("button", { type: "button", className: "danger" }, "Delete");
  let isAsked = false;
  const ask = (/** @type {boolean} */ on) => {
    isAsked = on;
    button.textContent = on ? "Delete for good?" : "Delete";
  };
  button.addEventListener("blur", () => ask(false));
  button.addEventListener("click", async () => {
    if (!isAsked) {
      ask(true);
      say("Press again to delete the image for good.");
      return;
    }
    button.disabled = true;
    const problem = await destroy(answer);
    button.disabled = false;
    ask(false);
    if (problem) {
      button.after(make("span", { className: "bad small", role: "alert" }, problem));
      return;
    }
    forget(answer.id);
    say("The image is deleted.");
    deleted();
  });
  return button;
}

/** @param {Record<string, any>} answer @returns {Promise<string | null>} what is wrong */
async function destroy({ id, deleteToken }) {
  try {
    const deleted = await send("DELETE", `/api/images/${id}`, { headers: { "X-Delete-Token": deleteToken } });
    return deleted.status < 300 || deleted.status === 404 ? null : messageOf(deleted);
  } catch (error) {
    if (error instanceof NoAnswer) return error.message;
    throw error;
  }
}
