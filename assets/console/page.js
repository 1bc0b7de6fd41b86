// Builds the page. All text becomes text nodes, so that nothing that strangers wrote is markup.

const SVG = "http://www.w3.org/2000/svg";

// Makes an element. `props` holds attributes, `class`, properties such as `value`, and listeners
// (`onclick`). Children are elements, texts, or null.
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

// The same for SVG.
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Replaces the content of an element.
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

// Tells the operator what happened, also by a screen reader.
let silence;
export function say(...parts) {
  const status = document.getElementById("status");
  show(status, ...parts);
  status.classList.add("visible");
  clearTimeout(silence);
  silence = setTimeout(() => {
    status.classList.remove("visible");
    show(status);
  }, 8000);
}

// Tells it to a screen reader alone, where everybody else sees it.
export function whisper(text) {
  say(text);
  document.getElementById("status").classList.remove("visible");
}

// A button that is disabled while its act runs. An error is said.
export function button(label, act, props = {}) {
  const made = h("button", { type: "button", ...props }, label);
  made.addEventListener("click", async () => {
    made.setAttribute("aria-busy", "true");
    try {
      await act();
    } catch (error) {
      say(error.message);
    } finally {
      made.removeAttribute("aria-busy");
    }
  });
  return made;
}

// Names and values, as a list of definitions. Values that are null are left out.
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

// A table. `head` names the columns; a column whose name begins with `#` holds numbers.
export function table(caption, head, rows, empty = "Nothing.") {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const numeric = head.map((name) => name.startsWith("#"));
  const names = head.map((name) => name.replace("#", ""));
  // A narrow window shows each row as a list. The roles keep it a table for screen readers.
  const cell = (value, index) =>
    h("td", { role: "cell", class: numeric[index] ? "number" : null, "data-name": names[index] }, h("span", {}, value ?? "–"));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { role: "table" },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, names.map((name, index) =>
        h("th", { scope: "col", role: "columnheader", class: numeric[index] ? "number" : null }, name)))),
      h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, row.map(cell))))));
}

// A labelled field of a form.
let fields = 0;
export function field(label, input, help = null) {
  const id = `field-${++fields}`;
  input.id = id;
  if (help) input.setAttribute("aria-describedby", `${id}-help`);
  return h("div", { class: "field" }, h("label", { for: id }, label), input,
    help && h("p", { class: "help", id: `${id}-help` }, help));
}

// A time in the operator's zone, with the exact time behind it.
export function time(text) {
  if (!text) return null;
  const options = { dateStyle: "medium", timeStyle: "short" };
  return h("time", { datetime: text, title: text }, new Date(text).toLocaleString("en-GB", options));
}

// How long ago a time is, such as `3 h`.
export function age(text) {
  const seconds = Math.max(0, (Date.now() - Date.parse(text)) / 1000);
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const [unit, length] = units.find(([, length]) => seconds >= length) ?? ["s", 1];
  return `${Math.floor(seconds / length)} ${unit}`;
}

// A number of bytes, such as `1.2 MiB`.
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(count) / 10)) : 0;
  const value = count / 1024 ** power;
  return `${power > 0 && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

// A long value in short, with all of it behind it.
export function short(value, length = 14) {
  if (!value || value.length <= length) return value;
  return h("code", { title: value }, `${value.slice(0, length - 5)}…${value.slice(-4)}`);
}

// A state as a word with a mark, so that it doesn't depend on colour alone.
const MARKS = {
  live: "●", removed: "⊘", held: "▣", deleting: "◌", deleted: "◌", discarded: "◌", pending: "◌",
  open: "●", upheld: "⊘", dismissed: "✓", good: "✓", bad: "!",
};
export function badge(state, word = state) {
  return h("span", { class: `badge ${state}` }, h("span", { "aria-hidden": "true" }, MARKS[state] ?? "·"), ` ${word}`);
}
