// The uploads of this browser: shows them, deletes them, and takes the list to another browser.

import { NoAnswer, messageOf, send } from "./api.js";
import { byId, make } from "./dom.js";
import { say } from "./say.js";
import { actButton, alertWith, askToDelete, byActs, copyButton, entryOf, isOver, onPress, sayDeleted, takeOut, titleOf } from "./shelf.js";
import { all, forget, remember, restore } from "./uploads.js";
import { dateInWords } from "./words.js";

/** The largest file that is read as a list, in bytes. */
const LARGEST_LIST = 16 * 1024 * 1024;

/** @typedef {import("./uploads.js").Upload} Upload */

const list = byId("mine");
byId("shelf").replaceChildren(...newestFirst().map(shown));
refresh();
list.hidden = false;

/** @returns {Upload[]} */
function newestFirst() {
  return all().sort((one, other) => Date.parse(other.uploadedAt) - Date.parse(one.uploadedAt));
}

/** Shows what depends on the list as a whole. */
function refresh() {
  const uploads = all();
  byId("empty").hidden = uploads.length > 0;
  byId("export").hidden = byId("note").hidden = uploads.length === 0;
  byId("clear").hidden = !uploads.some(isOver);
}

/** @param {Upload} upload @returns {HTMLElement} */
function shown(upload) {
  return entryOf(upload, {
    extra: `uploaded ${dateInWords(upload.uploadedAt)}`,
    acts: isOver(upload) ? [forgetButton(upload)] : actsOf(upload),
    lost: () => look(upload),
  });
}

/** @param {Upload} upload @returns {HTMLElement[]} */
function actsOf(upload) {
  const acts = [copyButton(upload)];
  if (upload.expiresAt && upload.pageUrl) {
    acts.push(make("a", { className: "button", href: `${upload.pageUrl}#longer`, "aria-label": `Keep longer: ${titleOf(upload)}, ${upload.id}` }, "Keep longer"));
  }
  acts.push(upload.deleteToken ? actButton("Delete", upload, () => destroy(upload), "danger") : forgetButton(upload));
  return acts;
}

/** @param {Upload} upload */
function forgetButton(upload) {
  return actButton("Take off the list", upload, () => dropped(upload.id));
}

/** The entry of an upload. @param {string} id @returns {HTMLElement | null} */
function entryWith(id) {
  return document.querySelector(`.item[data-id="${CSS.escape(id)}"]`);
}

/** @param {string} id */
function dropped(id) {
  if (!forget(id)) alertWith("The browser did not store the change. The image comes back to this list when the page is loaded again.");
  const entry = entryWith(id);
  if (entry) takeOut(entry);
  refresh();
}

/** @param {Upload} upload */
async function destroy(upload) {
  if (!(await askToDelete(upload))) return;
  alertWith(null);
  try {
    const answer = await send("DELETE", `/api/images/${upload.id}`, { headers: { "X-Delete-Token": upload.deleteToken ?? "" } });
    if (answer.status !== 200) {
      alertWith(messageOf(answer));
      return;
    }
    dropped(upload.id);
    sayDeleted();
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    alertWith(error.message);
  }
}

/** Asks the server about an image whose thumbnail was not loaded. @param {Upload} upload */
async function look(upload) {
  /** @type {Record<string, string>} */
  const headers = upload.deleteToken ? { "X-Delete-Token": upload.deleteToken } : {};
  const answer = await send("GET", `/api/images/${upload.id}`, { headers }).catch(() => null);
  const entry = entryWith(upload.id);
  if (!answer || !entry) return;
  if (answer.status === 200) {
    // A signed link has ended, or no variant can be made: the image itself is shown by its present link.
    remember(answer.body);
    const known = all().find(({ id }) => id === upload.id) ?? upload;
    const fresh = entryOf({ ...known, sizes: undefined }, { extra: `uploaded ${dateInWords(known.uploadedAt)}`, acts: actsOf(known) });
    const hadFocus = entry.contains(document.activeElement);
    entry.replaceWith(fresh);
    if (hadFocus) /** @type {HTMLElement | null} */ (fresh.querySelector("a.name"))?.focus();
    return;
  }
  if (![404, 410, 451].includes(answer.status)) return;
  entry.classList.add("gone");
  const reason = answer.body?.error === "not_found" ? "not here any more" : messageOf(answer);
  const facts = entry.querySelector(".about p");
  if (facts) facts.textContent = reason;
  byActs(entry).replaceChildren(forgetButton(upload));
}

onPress(byId("export"), () => {
  const text = JSON.stringify({ server: list.dataset.server, exportedAt: new Date().toISOString(), uploads: newestFirst() }, null, 1);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: url, download: "my-uploads.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say("The list is exported.");
});

onPress(byId("import"), () => byId("file").click());
byId("file").addEventListener("change", async (/** @type {any} */ event) => {
  const [file] = event.target.files;
  if (file) await take(file);
  event.target.value = "";
});

/** @param {File} file */
async function take(file) {
  alertWith(null);
  const uploads = file.size <= LARGEST_LIST ? read(await file.text()) : null;
  if (!uploads) {
    alertWith(`${file.name} is not a list that this page exported. Choose the file that “Export the list” made in the other browser, at this server.`);
    return;
  }
  const { added, isStored } = restore(uploads);
  byId("shelf").replaceChildren(...newestFirst().map(shown));
  refresh();
  if (!isStored) alertWith("The browser did not store the list: its storage is full or blocked. The images are shown until this page closes.");
  say(`${added} of ${uploads.length} uploads were added.`);
}

/** The uploads in an exported list. @param {string} text @returns {Upload[] | null} null: it is none of this server */
function read(text) {
  try {
    const { server, uploads } = JSON.parse(text);
    return server === list.dataset.server && Array.isArray(uploads) && uploads.every(isUpload) ? uploads : null;
  } catch {
    return null;
  }
}

/** @param {any} it */
function isUpload(it) {
  const texts = [it?.contentType, it?.tier, it?.visibility, it?.uploadedAt];
  const links = [it?.url, it?.pageUrl, it?.deleteUrl, ...Object.values(it?.sizes ?? {})].filter((link) => link !== undefined);
  return /^[0-9A-Za-z]{12}$/.test(it?.id) && texts.every((text) => typeof text === "string") && typeof it.url === "string"
    && links.every((link) => typeof link === "string" && /^https?:\/\//.test(link))
    && [it.bytes, it.width, it.height].every(Number.isFinite)
    && (it.expiresAt === null || typeof it.expiresAt === "string")
    && (it.deleteToken === undefined || /^[0-9a-f]{40}$/.test(it.deleteToken))
    && (it.dominantColor === undefined || /^#[0-9a-f]{6}$/.test(it.dominantColor));
}

onPress(byId("clear"), () => {
  for (const upload of all().filter(isOver)) {
    forget(upload.id);
    entryWith(upload.id)?.remove();
  }
  refresh();
  byId("title").focus();
  say("The expired images are off the list.");
});
