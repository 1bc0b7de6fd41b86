// Charts of the same statistics as `pixtoll stats`, and of the errors since this server started.

import { get, metrics } from "./api.js";
import { compared, overTime } from "./draw.js";
import { setKeys } from "./keys.js";
import { bytes, count, field, h, show } from "./page.js";

const DAYS = [7, 30, 90, 365];
const whole = (value) => Math.round(value).toLocaleString("en");
const money = (value) => (value % 1 === 0 ? whole(value) : value.toLocaleString("en", { maximumFractionDigits: 6 }));

export async function charts(main, query) {
  const days = DAYS.includes(Number(query.get("days"))) ? Number(query.get("days")) : 30;
  const [stats, counted] = await Promise.all([get(`/stats?days=${days}`), metrics()]);
  const select = h("select", {}, DAYS.map((value) => h("option", { value: String(value) }, `${value} days`)));
  select.value = String(days);
  select.addEventListener("change", () => { location.hash = `#/charts?days=${select.value}`; });
  show(main, h("h1", {}, "Charts"),
    h("div", { class: "filters" }, field("Time", select), h("p", { class: "quiet" }, `${stats.from} to ${stats.to}, days of UTC.`)),
    h("div", { class: "charts" },
      byDay(stats, "Uploads", "Images that were published, by tier.", (row) => row.uploads, whole),
      byDay(stats, "Revenue", "USDC of settled payments, refunds included.", (row) => Number(row.revenue), money),
      funnel(stats), clients(stats), storage(stats), due(stats), refusals(counted)));
  setKeys([]);
}

// A chart over all days, also those without a row.
function byDay(stats, title, note, value, write) {
  const series = [...new Set(stats.days.filter((row) => value(row) > 0).map((row) => row.tier))];
  const days = [];
  for (let at = Date.parse(stats.from); at <= Date.parse(stats.to); at += 86400000) {
    const day = new Date(at).toISOString().slice(0, 10);
    const rows = stats.days.filter((row) => row.day === day);
    days.push({ day, values: series.map((tier) => rows.filter((row) => row.tier === tier).reduce((sum, row) => sum + value(row), 0)) });
  }
  return overTime({ title, note, series, days, write });
}

const STEPS = [["challenged", "Asked to pay"], ["presented", "Sent a payment"], ["settled", "Paid"], ["delivered", "Used it"]];

function sums(rows) {
  return Object.fromEntries(STEPS.map(([step]) => [step, rows.reduce((sum, row) => sum + row[step], 0)]));
}

function funnel(stats) {
  const all = sums(stats.funnel);
  return compared({
    title: "Sales funnel", note: "From the request without a payment to the image.", head: ["Step", "#Requests", "#Of those before"], write: whole,
    rows: STEPS.map(([step, name], index) => {
      const before = index > 0 ? all[STEPS[index - 1][0]] : all[step];
      return { name, value: all[step], more: [before > 0 ? `${Math.round(100 * all[step] / before)} %` : "–"] };
    }),
  });
}

function clients(stats) {
  return compared({
    title: "Funnel by tier and client", note: "The bar is what was paid of what was asked.",
    head: ["Tier, client", "#Paid", "#Asked", "#Sent", "#Used"], write: whole, empty: "Nobody was asked to pay in these days.",
    rows: stats.funnel.map((row) => ({ name: `${row.tier}, ${row.client}`, value: row.settled,
      of: Math.max(row.challenged, row.settled), more: [row.challenged, row.presented, row.delivered].map(whole) })),
  });
}

function storage(stats) {
  const total = stats.storage.reduce((sum, row) => sum + row.liveBytes, 0);
  return compared({
    title: "Storage now", note: `${bytes(total)} are served.`, head: ["Tier", "#Bytes", "#Images"], write: bytes, empty: "No image is stored.",
    rows: stats.storage.map((row) => ({ name: row.tier, value: row.liveBytes, more: [whole(row.live)] })),
  });
}

function due(stats) {
  const sum = (name) => stats.storage.reduce((total, row) => total + row[name], 0);
  const { owed, refundsDue, unknownPayments } = stats.waiting;
  return compared({
    title: "Due", note: "What expires, and what waits for you.", head: ["What", "#Number"], write: whole,
    rows: [["Images that expire within a day", sum("dueInADay")], ["Images that expire within a week", sum("dueInAWeek")],
      ["Images that wait to be deleted", sum("overdue")], ["Payments whose goods are owed", owed], ["Refunds that are due", refundsDue],
      ["Payments of unknown outcome", unknownPayments]].map(([name, value]) => ({ name, value })),
  });
}

function refusals(counted) {
  if (!counted) return h("p", { class: "empty" }, "This server counts no errors, because metrics.enabled is false.");
  const rows = (counted.get("errors_total") ?? []).map(({ labels, value }) => ({ name: labels.code, value })).filter((row) => row.value > 0 && row.name !== "payment_required");
  const sum = rows.reduce((total, row) => total + row.value, 0);
  return compared({
    title: "Refusals", note: `${count(sum, "error response")} of this server since it started, by code, without the answer that asks to pay.`, head: ["Code", "#Responses"], write: whole,
    empty: "No request was refused.", rows: rows.sort((one, other) => other.value - one.value).slice(0, 20),
  });
}
