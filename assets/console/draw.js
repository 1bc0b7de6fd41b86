// Draws bars as SVG, each chart with the same numbers as a table.

import { h, svg, table } from "./page.js";

const WIDTH = 640;
const HEIGHT = 220;
const LEFT = 56;
const BOTTOM = 24;

// A chart with its title, a sentence about it, and the table.
function figure(title, note, drawing, head, rows) {
  return h("figure", { class: "chart" },
    h("figcaption", {}, h("h2", {}, title), h("p", { class: "quiet" }, note)),
    drawing,
    h("details", {}, h("summary", {}, `${title} as a table`), table(title, head, rows)));
}

// Round steps up to `most`, at most four of them.
function steps(most) {
  const rough = Math.max(most, 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((it) => it >= rough);
  return Array.from({ length: Math.max(1, Math.ceil(most / step)) + 1 }, (_, index) => index * step);
}

// Bars over days, stacked by series. `series` are names; `days` are {day, values}, a value for each
// series. `write` makes a number readable.
export function overTime({ title, note, series, days, write }) {
  const head = ["Day", ...series.map((name) => `#${name}`), ...(series.length > 1 ? ["#Sum"] : [])];
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const rows = days.filter((it) => sum(it.values) > 0)
    .map((it) => [it.day, ...it.values.map(write), ...(series.length > 1 ? [write(sum(it.values))] : [])]).reverse();
  const most = Math.max(0, ...days.map((it) => sum(it.values)));
  if (most === 0) return figure(title, note, h("p", { class: "empty" }, "Nothing in these days."), head, []);
  const marks = steps(most);
  const top = marks.at(-1);
  const y = (value) => 8 + (HEIGHT - BOTTOM - 8) * (1 - value / top);
  const wide = (WIDTH - LEFT) / days.length;
  const gap = Math.min(2, wide * 0.2);
  const bars = days.flatMap(({ day, values }, index) => {
    let below = 0;
    return values.map((value, which) => {
      if (value === 0) return null;
      const bar = svg("rect", { class: `series-${which % 6}`, x: LEFT + index * wide + gap / 2, width: Math.max(0.5, wide - gap),
        y: y(below + value), height: Math.max(1, y(below) - y(below + value)) },
      svg("title", {}, `${day}, ${series[which]}: ${write(value)}`));
      below += value;
      return bar;
    });
  });
  const lines = marks.map((mark) => [
    svg("line", { x1: LEFT, x2: WIDTH, y1: y(mark), y2: y(mark) }),
    svg("text", { x: LEFT - 8, y: y(mark) + 4, "text-anchor": "end" }, write(mark))]);
  const named = [0, Math.floor((days.length - 1) / 2), days.length - 1].filter((at, index, all) => all.indexOf(at) === index);
  const dates = named.map((at, index) => svg("text", { x: LEFT + (at + 0.5) * wide, y: HEIGHT - 6,
    "text-anchor": named.length === 1 ? "middle" : ["start", "middle", "end"][index === named.length - 1 ? 2 : index] }, days[at].day));
  const label = `${title}: ${write(sum(days.flatMap((it) => it.values)))} in ${days.length} days, at most ${write(most)} a day.`;
  return figure(title, note, [
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, lines, bars, dates),
    series.length > 1 && h("ul", { class: "legend" }, series.map((name, which) =>
      h("li", {}, h("span", { class: `key series-${which % 6}` }), name)))], head, rows);
}

// Bars of named values, one below the other. `rows` are {name, value, of}; `of` is what the value is a
// part of, which is drawn behind it.
export function compared({ title, note, head, rows, write, empty = "Nothing yet." }) {
  const most = Math.max(0, ...rows.map((row) => row.of ?? row.value));
  const bars = h("ul", { class: "bars" }, rows.map((row) => h("li", {},
    h("span", { class: "name" }, row.name),
    svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      row.of !== undefined && svg("rect", { class: "whole", width: most ? 100 * row.of / most : 0, height: 10 }),
      svg("rect", { class: "series-0", width: most ? 100 * row.value / most : 0, height: 10 })),
    h("span", { class: "number" }, write(row.value)))));
  const cells = rows.map((row) => [row.name, write(row.value), ...(row.more ?? [])]);
  return figure(title, note, rows.length > 0 ? bars : h("p", { class: "empty" }, empty), head, cells);
}
