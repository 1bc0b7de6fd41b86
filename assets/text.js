// Blocks of code in documents: a button that copies each, and one that sends the requests which change nothing.

import "./copy.js";
import { say } from "./say.js";

/** The longest response that is shown, in characters. */
const LONGEST = 20_000;

/**
 * The request of a block, if it can be sent from here: GET of a whole URL of this server, or a check of an image.
 * @param {string} text
 * @returns {{url: string, file: boolean} | null}
 */
function request(text) {
  const found = /^curl (?:-sS )?(-F image=@photo\.png )?"?(https?:\/\/[^\s"'$]+)"?$/.exec(text.trim());
  const url = found && URL.canParse(found[2]) ? new URL(found[2]) : null;
  if (url?.origin !== location.origin) return null;
  if (found[1]) return url.pathname === "/api/check" ? { url: url.href, file: true } : null;
  return { url: url.href, file: false };
}

/** @param {Blob} [file] @returns {Promise<File | null>} */
function pick() {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "image/*";
  return new Promise((resolve) => {
    input.addEventListener("change", () => resolve(input.files?.[0] ?? null));
    input.addEventListener("cancel", () => resolve(null));
    input.click();
  });
}

/**
 * Sends a request, and shows the response below its block.
 * @param {HTMLElement} block
 * @param {{url: string, file: boolean}} asked
 */
async function send(block, asked) {
  const file = asked.file ? await pick() : null;
  if (asked.file && !file) return;
  const shown = block.querySelector(".returned") ?? document.createElement("pre");
  shown.className = "returned";
  shown.setAttribute("tabindex", "0");
  shown.textContent = "…";
  block.append(shown);
  let said;
  try {
    const form = new FormData();
    if (file) form.append("image", file);
    const response = await fetch(asked.url, file ? { method: "POST", body: form } : { headers: { Accept: "application/json" } });
    const text = await response.text();
    const status = `HTTP ${response.status}`;
    const json = response.headers.get("content-type")?.includes("json");
    shown.textContent = `${status}\n${json ? JSON.stringify(JSON.parse(text), null, 2) : text}`.slice(0, LONGEST);
    said = `The server returned ${status}`;
  } catch {
    shown.textContent = "The server did not answer.";
    said = shown.textContent;
  }
  say(said);
}

/**
 * @param {string} text
 * @param {(button: HTMLButtonElement) => void} [press]
 */
function button(text, press) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  if (press) made.addEventListener("click", () => press(made));
  return made;
}

for (const [index, block] of document.querySelectorAll(".code").entries()) {
  const code = block.querySelector("code");
  if (!code || !(block instanceof HTMLElement)) continue;
  code.id = `block-${index + 1}`;
  const bar = document.createElement("div");
  bar.className = "code-bar";
  const asked = code.classList.contains("language-sh") ? request(code.textContent ?? "") : null;
  if (asked) bar.append(button(asked.file ? "Try it with an image" : "Try it", () => send(block, asked)));
  const copies = button("Copy");
  copies.dataset.copyFrom = code.id;
  bar.append(copies);
  block.append(bar);
}
