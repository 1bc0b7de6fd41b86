// The uploads of this browser: their links and the tokens that delete them. They are kept in the browser's local storage,
// and sent nowhere.

const KEY = "pixtoll.uploads";
const UNREADABLE = "pixtoll.uploads.unreadable";

/**
 * @typedef {object} Upload
 * @property {string} id
 * @property {string} url
 * @property {string} [pageUrl] the page that shows the image
 * @property {string} [deleteUrl] the page that deletes it
 * @property {string} tier
 * @property {string} contentType
 * @property {number} bytes
 * @property {number} width
 * @property {number} height
 * @property {Record<string, string>} [sizes] links to smaller variants
 * @property {string} [dominantColor]
 * @property {string | null} expiresAt null: kept until the service ends
 * @property {string} [deleteToken] missing where the server gave it to another uploader
 * @property {string} uploadedAt
 * @property {string} visibility "public" or "private"
 */

/** Uploads that the storage did not take. They last as long as the page. @type {Upload[]} */
let unstored = [];

/** @returns {Upload[]} the uploads in the storage, newest first */
function stored() {
  let text = null;
  try {
    text = localStorage.getItem(KEY);
    const list = JSON.parse(text ?? "[]");
    if (Array.isArray(list)) return list.filter((it) => typeof it?.id === "string" && typeof it.url === "string");
  } catch {
    // Blocked storage holds nothing; an unreadable list is kept below.
  }
  if (text) save(UNREADABLE, text);
  return [];
}

/** @param {string} key @param {string} text @returns {boolean} whether the storage took it */
function save(key, text) {
  try {
    localStorage.setItem(key, text);
    return true;
  } catch {
    return false;
  }
}

/** The uploads of this browser, newest first. @returns {Upload[]} */
export function all() {
  const list = stored();
  const known = new Set(list.map(({ id }) => id));
  return [...unstored.filter(({ id }) => !known.has(id)), ...list];
}

/**
 * Keeps an upload, by the answer of the API to it.
 * @param {Record<string, any>} answer
 * @returns {boolean} false: the storage is full or blocked, and the upload is kept until the page closes. Say so, and show
 * the delete token.
 */
export function remember(answer) {
  const before = all().find(({ id }) => id === answer.id);
  /** @type {Upload} */
  const upload = {
    id: answer.id,
    url: answer.url,
    pageUrl: answer.pageUrl,
    deleteUrl: answer.deleteUrl ?? before?.deleteUrl,
    tier: answer.tier,
    contentType: answer.contentType,
    bytes: answer.sizeBytes,
    width: answer.width,
    height: answer.height,
    sizes: answer.sizes,
    dominantColor: answer.dominantColor,
    expiresAt: answer.expiresAt ?? null,
    // The same bytes by an upload link are answered without the token.
    deleteToken: answer.deleteToken ?? before?.deleteToken,
    uploadedAt: before?.uploadedAt ?? new Date().toISOString(),
    visibility: answer.visibility,
  };
  const isStored = save(KEY, JSON.stringify([upload, ...stored().filter(({ id }) => id !== upload.id)]));
  unstored = unstored.filter(({ id }) => id !== upload.id);
  if (!isStored) unstored = [upload, ...unstored];
  return isStored;
}

/**
 * Forgets an upload, such as one that was deleted.
 * @param {string} id
 * @returns {boolean} whether the storage took the change
 */
export function forget(id) {
  unstored = unstored.filter((it) => it.id !== id);
  const list = stored();
  const rest = list.filter((it) => it.id !== id);
  return rest.length === list.length || save(KEY, JSON.stringify(rest));
}

/**
 * Adds uploads that another browser kept. Those that are known here stay as they are.
 * @param {Upload[]} list
 * @returns {{added: number, isStored: boolean}} isStored is false where they are kept until the page closes
 */
export function restore(list) {
  const known = new Set(all().map(({ id }) => id));
  const added = list.filter(({ id }) => !known.has(id));
  const isStored = save(KEY, JSON.stringify([...stored(), ...added]));
  if (!isStored) unstored = [...unstored, ...added];
  return { added: added.length, isStored };
}
