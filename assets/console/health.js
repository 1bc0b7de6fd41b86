// Whether this server is well: readiness, ledger, space and what waits.

import { metrics, ready } from "./api.js";
import { setKeys } from "./keys.js";
import { age, badge, button, bytes, facts, h, show, time } from "./page.js";

const at = (seconds) => (seconds > 0 ? new Date(seconds * 1000).toISOString() : null);

export async function health(main) {
  const [state, counted] = await Promise.all([ready(), metrics()]);
  const again = () => health(main);
  show(main, h("h1", {}, "Health"),
    h("div", { class: "cards" },
      card("Server", state.ready && !state.problem, state.problem ?? "The database and the image store answer.", counted ? serverFacts(counted) : []),
      counted ? cards(counted) : h("p", { class: "empty" }, "This server counts nothing more, because metrics.enabled is false.")),
    h("p", {}, button("Look again", again)));
  setKeys([]);
}

function card(title, isGood, verdict, pairs) {
  return h("section", { class: "card", "aria-label": title },
    h("h2", {}, title), h("p", {}, badge(isGood ? "good" : "bad", verdict)), facts(pairs));
}

const valueOf = (counted, name) => counted.get(name)?.[0]?.value ?? 0;

function serverFacts(counted) {
  const build = counted.get("build_info")?.[0]?.labels ?? {};
  return [["Version", build.version], ["Database", build.database], ["Store", build.store],
    ["Checks of images", `${valueOf(counted, "checks_running")} run, ${valueOf(counted, "checks_waiting")} wait`]];
}

function cards(counted) {
  const value = (name) => valueOf(counted, name);
  const checked = at(value("ledger_checked_timestamp_seconds"));
  const broken = value("ledger_violations");
  const ran = at(value("reaper_last_run_timestamp_seconds"));
  const [free, least] = [value("free_space_bytes"), value("min_free_bytes")];
  const isFull = free > 0 && free < least;
  const waiting = ["payments_unknown", "payments_owed", "payments_missing", "orphan_transfers"].map(value);
  return [
    card("Ledger", broken === 0 && checked !== null,
      broken > 0 ? `${broken} rows break a rule. Run pixtoll ledger check.` : checked ? "No rule is broken." : "Not checked yet.",
      [["Checked", checked && `${age(checked)} ago`]]),
    card("Payments", value("sales_paused") === 0 && waiting.every((it) => it === 0),
      value("sales_paused") > 0 ? "Sales are paused." : waiting.every((it) => it === 0) ? "Nothing waits." : "Something waits.",
      [["Unknown outcome", waiting[0]], ["Oldest of them", `${value("payments_unknown_age_seconds")} s`], ["Goods owed", waiting[1]],
        ["Not on the chain", waiting[2]], ["Transfers without a payment", waiting[3]]]),
    card("Space", !isFull, free === 0 ? "A bucket holds the images." : isFull ? "Uploads are refused." : "There is room.",
      [["Free", free > 0 && bytes(free)], ["Least", free > 0 && bytes(least)], ["Images", value("images_live").toLocaleString("en")],
        ["Their size", bytes(value("images_live_bytes"))], ["Cache", bytes(value("cache_bytes"))]]),
    card("Reaper", value("clock_doubted") === 0 && value("reaper_lag_seconds") < 3600,
      value("clock_doubted") > 0 ? "The clock is not trusted: nothing is deleted." : value("reaper_lag_seconds") < 3600 ? "On time." : "Late.",
      [["Last run", ran && time(ran)], ["Images to delete", value("images_due")], ["Failures", value("reap_failures_total")]]),
  ];
}
