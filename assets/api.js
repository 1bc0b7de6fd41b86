// Requests to this server, with progress, and its errors as the API writes them.

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {any} body the JSON of the body; null where it is none
 * @property {(name: string) => string | null} header
 */

/** No answer came: the connection broke, or the request was aborted. Nobody knows what the server did. */
export class NoAnswer extends Error {}

/** The browser can't read a file: it is a folder, or it was changed or deleted after it was chosen. */
export class Unreadable extends Error {
  /** @param {string} [message] */
  constructor(message = "This file can’t be read. Choose it again.") {
    super(message);
  }
}

/**
 * Reads a file into memory. What happens to the file later does not change the copy.
 * @param {File} file
 * @returns {Promise<Blob>}
 * @throws {Unreadable}
 */
export async function copyOf(file) {
  const bytes = await file.arrayBuffer().catch(() => { throw new Unreadable(); });
  if (!bytes.byteLength) throw new Unreadable("This file is empty. Choose another one.");
  return new Blob([bytes], { type: file.type });
}

/** Whether the browser can read a file. Only its first byte is read. @param {Blob} file */
export const isReadable = (file) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

/**
 * Sends a request. `fetch` reports no progress of uploads, so this uses XMLHttpRequest.
 * @param {string} method
 * @param {string} url
 * @param {{headers?: Record<string, string>, body?: XMLHttpRequestBodyInit | null, progress?: (part: number) => void,
 *   signal?: AbortSignal}} [options] `progress` receives the part that was sent, from 0 to 1
 * @returns {Promise<Answer>}
 * @throws {NoAnswer | Unreadable}
 */
export function send(method, url, { headers = {}, body = null, progress, signal } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.setRequestHeader("Accept", "application/json");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    if (progress) request.upload.addEventListener("progress", ({ loaded, total }) => progress(total ? loaded / total : 0));
    const failed = async () => {
      if (body instanceof Blob && !(await isReadable(body))) return reject(new Unreadable());
      reject(new NoAnswer("The server did not answer. Check your connection, then try again."));
    };
    for (const event of ["error", "abort", "timeout"]) request.addEventListener(event, failed);
    request.addEventListener("load", () => resolve({
      status: request.status, body: parsed(request.responseText), header: (name) => request.getResponseHeader(name),
    }));
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * The sentence of the API about an answer that is an error.
 * @param {Answer} answer
 * @returns {string}
 */
export function messageOf({ status, body }) {
  if (typeof body?.message === "string") return body.message;
  if (status === 413) return "A proxy in front of the server refused the file as too large. Send a smaller image.";
  return `The server answered with status ${status} and no message. Try again.`;
}
