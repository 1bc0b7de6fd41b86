// What the server refuses: lists of hashes and wallets.

import { act, get } from "./api.js";
import { decide } from "./decide.js";
import { keyed, setKeys } from "./keys.js";
import { button, count, field, h, say, short, show, table, time } from "./page.js";

const PAGE = 100;
const KINDS = [["", "All kinds"], ["sha256", "Files (SHA-256)"], ["pdq", "Pictures (PDQ)"], ["wallet", "Wallets"]];

const choice = (options, value) => {
  const select = h("select", {}, options.map(([name, label]) => h("option", { value: name }, label)));
  select.value = value;
  return select;
};

export async function blocks(main, query) {
  const [kind, source, after] = ["kind", "source", "after"].map((name) => query.get(name) ?? "");
  const { counts } = await get("/blocks/count");
  const wanted = new URLSearchParams({ limit: PAGE, ...(kind && { kind }), ...(source && { source }), ...(after && { after }) });
  const page = await get(`/blocks?${wanted}`);
  const again = () => blocks(main, query);
  const sources = [...new Set(counts.map((it) => it.source))];
  const kinds = choice(KINDS, kind);
  const lists = choice([["", "All lists"], ...sources.map((name) => [name, name])], source);
  const filter = () => {
    location.hash = `#/blocks?${new URLSearchParams({ ...(kinds.value && { kind: kinds.value }), ...(lists.value && { source: lists.value }) })}`;
  };
  kinds.addEventListener("change", filter);
  lists.addEventListener("change", filter);
  const next = page.next && new URLSearchParams({ ...(kind && { kind }), ...(source && { source }), after: page.next });
  show(main, h("h1", {}, "Blocks"),
    h("p", { class: "quiet" }, "New uploads and purchases are refused. Images that are served already stay."),
    h("div", { class: "acts", role: "group", "aria-label": "Acts" },
      button(keyed("Block", "n"), () => add(again), { class: "primary" }), button("Import a list", () => importList(again))),
    counts.length > 0 && h("div", { class: "small" }, table("Blocks by list", ["List", "Kind", "#Blocks"], counts.map((it) => [it.source, it.kind, it.blocks]))),
    h("div", { class: "filters" }, field("Kind", kinds), field("List", lists)),
    table("Blocks", ["Kind", "Value", "List", "Reason", "Since", "Until", "Act"], page.blocks.map((block) => [
      block.kind, short(block.value, 20), block.source, block.reason, time(block.createdAt),
      block.expiresAt ? time(block.expiresAt) : "–",
      button("Lift", () => lift(block, again), { "aria-label": `Lift the block of ${block.kind} ${block.value}` })]), "Nothing is blocked."),
    next && h("p", {}, h("a", { href: `#/blocks?${next}` }, "Next blocks")));
  setKeys([["n", "Block something", () => add(again)]]);
}

async function add(again) {
  const targets = h("textarea", { rows: "4", required: true, spellcheck: "false" });
  const done = await decide({
    title: "Block",
    options: [
      { name: "targets", label: "What", input: targets, help: "One a line: sha256:HEX, pdq:HEX, a wallet (0x…), or the id of an image." },
      { name: "time", label: "For", input: h("input", { placeholder: "30d" }), help: "A time such as 30d. Empty: until you lift it." }],
    confirm: "Block",
    isGrave: true,
    act: (reason, chosen) => act("/block", reason, {
      targets: chosen.targets.split(/\s+/).filter(Boolean), ...(chosen.time && { for: chosen.time }) }),
  });
  if (!done) return;
  await again();
  say(`${count(done.blocks.length, "block")} made.`, done.served.length > 0 && ` Still served: ${done.served.join(", ")}.`);
}

async function lift(block, again) {
  const done = await decide({
    title: `Lift the block of ${block.kind} ${block.value.slice(0, 12)}…`,
    text: block.source === "operator" ? null : `The list ${block.source} blocks it again with its next import.`,
    confirm: "Lift",
    act: (reason) => act("/unblock", reason, { targets: [`${block.kind}:${block.value}`], source: block.source }),
  });
  if (!done) return;
  await again();
  say("The block is lifted.");
}

async function importList(again) {
  const file = h("input", { type: "file", required: true, accept: ".txt,.csv,.tsv,text/plain,text/csv" });
  const done = await decide({
    title: "Import a list",
    text: "The blocks of the list become those of the file: what is not in the file is lifted.",
    options: [
      { name: "file", label: "File", input: file, help: "One hash or wallet a line, alone or in CSV." },
      { name: "source", label: "Name of the list", input: h("input", { required: true, maxlength: "64", pattern: "[A-Za-z0-9._\\-]+" }) },
      { name: "kind", label: "Kind of hashes whose lines don't name it", input: choice([["", "Each line names it"], ...KINDS.slice(1)], "") }],
    confirm: "Import",
    act: async (reason, { source, kind }) => act("/blocks/import", reason, {
      source, list: await file.files[0].text(), ...(kind && { kind }) }),
  });
  if (!done) return;
  await again();
  say(`${done.source} has ${count(done.blocks, "block")}: ${done.added} added, ${done.updated} updated, ${done.removed} removed, `
    + `${count(done.skippedLines, "line")} skipped.`);
}
