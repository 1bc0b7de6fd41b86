// The page that deletes an image: takes the token from the address, and shows the picture of a private image.

import { NoAnswer, messageOf, send } from "./api.js";
import { byId, make } from "./dom.js";
import { placehold } from "./placeholder.js";
import { titleOf } from "./shelf.js";
import { all, forget } from "./uploads.js";

const [page, deleted] = [byId("deletion"), byId("deleted")];
if (deleted) forget(deleted.dataset.id);
if (page) start(page.dataset.id);

/** @param {string} id */
function start(id) {
  const [token, field] = [byId("token"), byId("token-field")];
  for (const picture of document.querySelectorAll("img.picture")) placehold(/** @type {HTMLImageElement} */ (picture));
  const given = decodeURIComponent(location.hash.slice(1)).trim() || token.value || all().find((it) => it.id === id)?.deleteToken || "";
  if (!/^[0-9a-fA-F]{40}$/.test(given)) return;
  token.value = given;
  // The address held the whole token, so nobody needs to see it. After an error it is shown.
  if (!document.querySelector(".notice.bad")) field.hidden = true;
  look(id, given);
}

/** Shows what the token's owner may see. @param {string} id @param {string} token */
async function look(id, token) {
  const state = byId("state");
  const tell = (/** @type {string} */ text) => {
    state.textContent = text;
    state.hidden = false;
  };
  try {
    const answer = await send("GET", `/api/images/${id}`, { headers: { "X-Delete-Token": token } });
    if (answer.status === 200) show(answer.body);
    else if (answer.status === 404 && answer.body?.error === "not_found") {
      byId("token-field").hidden = false;
      tell("This image is not here any more: it expired or was deleted. Or the token is of another image.");
    } else tell(messageOf(answer));
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    tell(error.message);
  }
}

/** @param {any} image */
function show(image) {
  byId("keep").href = image.pageUrl;
  if (!byId("unseen")) return;
  byId("plate").replaceChildren(make("img", { className: "picture", src: image.sizes.m, width: image.width, height: image.height, alt: titleOf(image) }));
}
