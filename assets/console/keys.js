// Keys: one key, one act. They rest while the operator types, while a dialog is open, and when they
// are switched off (WCAG 2.1.4).

import { h } from "./page.js";

const OFF = "pixtoll-keys-off";
let screen = [];
let everywhere = [];

// Sets the keys of the screen: triples of key, what it does, and the act.
export function setKeys(keys) {
  screen = keys;
}

export function setGlobalKeys(keys) {
  everywhere = [...keys, ["?", "Show this list", help]];
}

const areOff = () => localStorage.getItem(OFF) !== null;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || areOff()) return;
  if (document.querySelector("dialog[open]")) return;
  const target = event.target;
  if (target.closest("input, textarea, select")) return;
  // Space and Enter press the button that has the focus.
  if ((event.key === " " || event.key === "Enter") && target.closest("button, a, summary")) return;
  const found = [...screen, ...everywhere].find(([key]) => key === event.key);
  if (!found) return;
  event.preventDefault();
  found[2]();
});

const named = (key) => (key === " " ? "space" : key);

export function help() {
  const line = ([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, named(key))), h("dd", {}, what));
  const off = h("input", { type: "checkbox", checked: !areOff() });
  off.addEventListener("change", () => {
    if (off.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "yes");
  });
  const dialog = h("dialog", { "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl", { class: "keys" }, [...screen, ...everywhere].map(line)),
    h("label", { class: "check" }, off, " Use these keys"),
    h("form", { method: "dialog" }, h("button", { class: "primary" }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// A label with its key.
export function keyed(label, key) {
  return [label, " ", h("kbd", { "aria-hidden": "true" }, named(key))];
}
