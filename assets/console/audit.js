// The operator's log, and whether it is intact.

import { get } from "./api.js";
import { logTable } from "./facts.js";
import { setKeys } from "./keys.js";
import { badge, field, h, show } from "./page.js";

const PAGE = 100;

export async function audit(main, query) {
  const [about, before] = [query.get("about") ?? "", query.get("before") ?? ""];
  const wanted = new URLSearchParams({ limit: PAGE, ...(about && { about }), ...(before && { before }) });
  const { entries } = await get(`/log?${wanted}`);
  const subject = h("input", { type: "search", value: about, spellcheck: "false" });
  const search = (event) => {
    event.preventDefault();
    location.hash = subject.value.trim() ? `#/log?about=${encodeURIComponent(subject.value.trim())}` : "#/log";
  };
  const verdict = h("div", { class: "verdict", role: "status" });
  const noted = h("input", { placeholder: "number:hash", spellcheck: "false", autocomplete: "off" });
  const last = entries.length === PAGE && entries.at(-1).number;
  show(main, h("h1", {}, "Log"),
    h("section", { class: "card", "aria-label": "Check of the log" }, verdict,
      h("form", { class: "search", onsubmit: (event) => { event.preventDefault(); verify(verdict, noted.value); } },
        field("Newest entry that you noted earlier", noted, "Optional. It shows whether entries at the end were deleted since."),
        h("button", {}, "Check again"))),
    h("form", { class: "search", onsubmit: search }, field("About", subject, "The id of an image, a block or a list. Empty: everything."),
      h("button", { class: "primary" }, "Show")),
    logTable(entries),
    last && h("p", {}, h("a", { href: `#/log?${new URLSearchParams({ ...(about && { about }), before: last })}` }, "Older entries")));
  setKeys([["/", "Search", () => subject.focus()]]);
  verify(verdict, "");
}

async function verify(verdict, noted) {
  show(verdict, h("p", {}, "Checking the hashes of all entries…"));
  const [number, hash] = noted.trim().split(":");
  const expected = noted.trim() ? `?${new URLSearchParams({ number, hash: hash ?? "" })}` : "";
  try {
    const found = await get(`/log/verify${expected}`);
    const head = h("code", { class: "long" }, `${found.head.number}:${found.head.hash}`);
    show(verdict, found.isIntact
      ? [h("p", {}, badge("good", "The log is intact.")), h("p", {}, "Newest entry, to be noted elsewhere: ", head)]
      : [h("p", {}, badge("bad", "The log is not intact:"), ` ${found.fault}.`), h("p", {}, "Intact up to: ", head)]);
  } catch (error) {
    show(verdict, h("p", { class: "problem" }, error.message));
  }
}
