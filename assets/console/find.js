// Finds images by what a letter names, and lists them by state.

import { get } from "./api.js";
import { imageLink, stateOf } from "./facts.js";
import { setKeys } from "./keys.js";
import { bytes, field, h, short, show, table, time } from "./page.js";

const PAGE = 50;
const STATES = [["all", "All"], ["removed", "Removed"], ["held", "Held"], ["waiting", "Holds that wait for a decision"]];

export async function find(main, query) {
  const asked = query.get("q") ?? "";
  const state = STATES.some(([name]) => name === query.get("state")) ? query.get("state") : "all";
  const what = h("input", { type: "search", value: asked, autocomplete: "off", spellcheck: "false", required: true });
  const search = (event) => {
    event.preventDefault();
    const words = what.value.trim();
    location.hash = /^[0-9a-f]{16}$/.test(words) ? `#/queue/${words}` : `#/find?q=${encodeURIComponent(words)}`;
  };
  const results = h("div");
  show(main, h("h1", {}, "Find"),
    h("form", { class: "search", onsubmit: search },
      field("Id, link, wallet, transaction, payment or case", what), h("button", { class: "primary" }, "Find")),
    h("nav", { class: "tabs", "aria-label": "Lists" }, STATES.map(([name, label]) =>
      h("a", { href: `#/find?state=${name}`, "aria-current": !asked && name === state ? "page" : null }, label))),
    results);
  setKeys([["/", "Search", () => what.focus()]]);
  if (asked) {
    const { images } = await get(`/find?what=${encodeURIComponent(asked)}`);
    show(results, list(images, "No image fits."));
  } else {
    const after = query.get("after");
    const { images } = await get(`/images?state=${state}&limit=${PAGE}${after ? `&after=${after}` : ""}`);
    const last = images.length === PAGE && images.at(-1).id;
    show(results, list(images, "No images."), last && h("p", {}, h("a", { href: `#/find?state=${state}&after=${last}` }, "Older images")));
  }
}

function list(images, empty) {
  return table("Images", ["Image", "State", "Tier", "File", "Wallet", "Uploaded", "Expires"], images.map((image) => [
    imageLink(image.id), stateOf(image), image.tier, `${image.width} × ${image.height}, ${bytes(image.sizeBytes)}`,
    image.owner && h("a", { href: `#/find?q=${image.owner}` }, short(image.owner)), time(image.createdAt),
    image.expiresAt ? time(image.expiresAt) : "never"]), empty);
}
