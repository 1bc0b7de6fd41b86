// The page of an image, and the page that says that there is none. Where this browser uploaded the image, it shows what its
// delete token allows.

import { messageOf, NoAnswer, send } from "./api.js";
import "./copy.js";
import { byId, make } from "./dom.js";
import { linkOf } from "./links.js";
import { placehold } from "./placeholder.js";
import { receiptsOf } from "./receipt.js";
import { onPress } from "./shelf.js";
import { all, remember } from "./uploads.js";
import { dateInWords, timeLeft } from "./words.js";

const [image, missing] = [byId("image"), byId("missing")];

/** The upload of this browser with this id. @param {string | undefined} id */
const mine = (id) => all().find((it) => it.id === id && it.deleteToken);

if (image) {
  const left = byId("left");
  for (const picture of image.querySelectorAll("img.picture")) placehold(picture);
  // The server wrote the time left; it goes on here.
  if (left) {
    left.title = dateInWords(left.dateTime);
    setInterval(() => { left.textContent = timeLeft(left.dateTime || null); }, 30_000);
  }
  for (const input of image.querySelectorAll(".copies input")) input.addEventListener("focus", () => input.select());
  if (location.hash === "#longer" && byId("longer")) byId("longer").open = true;
  if (byId("renew")) import("./renew.js");
  const upload = mine(image.dataset.id);
  if (upload) own(upload);
}

/** @param {import("./uploads.js").Upload} upload */
function own({ id, deleteToken = "", deleteUrl }) {
  const result = byId("result");
  byId("delete").href = deleteUrl ?? `/delete/${id}#${deleteToken}`;
  byId("own").hidden = false;
  const headers = { "X-Delete-Token": deleteToken };
  /** @param {HTMLElement | null} button @param {string} method @param {string} path @param {(body: any) => HTMLElement[]} show */
  const on = (button, method, path, show) => button && onPress(button, async () => {
    try {
      const answer = await send(method, path, { headers });
      if (answer.status === 200) result.replaceChildren(...show(answer.body));
      else result.replaceChildren(make("p", { className: "notice", role: "alert" }, messageOf(answer)));
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      result.replaceChildren(make("p", { className: "notice bad", role: "alert" }, error.message));
    }
  });
  on(byId("receipts"), "GET", `/api/receipts/${id}`, (body) => receiptsOf(body, { id, url: image.dataset.url }));
  on(byId("sign"), "POST", `/api/images/${id}/links`, linkOf);
}

// The server shows a private image by its signed link alone, and says nothing of a removal to strangers. This browser may know
// more by its token.
const lost = missing && mine(missing.dataset.id);
if (lost) {
  const note = byId("own");
  send("GET", `/api/images/${lost.id}`, { headers: { "X-Delete-Token": lost.deleteToken ?? "" } }).then((answer) => {
    note.hidden = false;
    if (answer.status === 200) {
      remember(answer.body);
      note.replaceChildren(make("p", {}, "You uploaded this image from this browser. It is still here: ", make("a", { href: answer.body.pageUrl }, "show it by a new link"), "."));
      return;
    }
    const ended = lost.expiresAt && Date.parse(lost.expiresAt) <= Date.now();
    const reason = ended ? `It expired ${dateInWords(lost.expiresAt ?? "")}.` : answer.status === 404 && answer.body?.error === "not_found" ? "It was deleted." : messageOf(answer);
    note.replaceChildren(make("p", {}, `You uploaded this image from this browser ${dateInWords(lost.uploadedAt)}. ${reason}`));
  }, () => {});
}
