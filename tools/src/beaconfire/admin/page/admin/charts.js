/** Small live charts in SVG. A chart has its newest value as text, and a sentence for people who do not see it. */

import { h } from "../dom.js";
import { number } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 56;

/**
 * @param {{title: string, unit: string, points: any[], of: (point: any) => number | null, kept: number, note?: string}} chart
 */
export function chart({ title, unit, points, of, kept, note }) {
  const values = points.map(of);
  const known = values.filter((value) => value !== null);
  const newest = known.length ? values[values.length - 1] : null;
  const most = Math.max(0, ...known);
  const shown = newest === null ? "–" : number(newest);
  const sentence = known.length
    ? `${title}: ${shown} ${unit} now, at most ${number(most)} in this chart`
    : `${title}: nothing measured yet`;
  return h(
    "div",
    { class: "chart card", "data-key": `chart-${title}` },
    h("h2", {}, title),
    h("p", { class: "chart-value" }, h("strong", {}, shown), " ", h("span", { class: "quiet" }, unit)),
    drawing(values, most, kept, sentence),
    h("p", { class: "chart-foot quiet" }, h("span", {}, note ?? ""), h("span", {}, known.length ? `max. ${number(most)}` : "")),
  );
}

/** @param {(number | null)[]} values @param {number} most @param {number} kept @param {string} sentence */
function drawing(values, most, kept, sentence) {
  const svg = element("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    class: "drawing",
    role: "img",
    "aria-label": sentence,
  });
  svg.append(element("path", { class: "ground", d: `M0 ${HEIGHT - 1}H${WIDTH}` }));
  const step = WIDTH / Math.max(kept - 1, 1);
  const start = WIDTH - (values.length - 1) * step;
  let line = "";
  let area = "";
  let from = 0;
  values.forEach((value, index) => {
    const x = round(start + index * step);
    if (value === null) return;
    const y = round(HEIGHT - 2 - (most ? (value / most) * (HEIGHT - 6) : 0));
    const begins = index === 0 || values[index - 1] === null;
    if (begins) from = x;
    line += `${begins ? "M" : "L"}${x} ${y}`;
    area += begins ? `M${x} ${HEIGHT}L${x} ${y}` : `L${x} ${y}`;
    if (index === values.length - 1 || values[index + 1] === null) area += `L${x} ${HEIGHT}L${from} ${HEIGHT}Z`;
  });
  svg.append(element("path", { class: "area", d: area || "M0 0" }), element("path", { class: "line", d: line || "M0 0" }));
  return svg;
}

/** @param {string} name @param {Record<string, string>} attributes */
function element(name, attributes) {
  const one = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  return one;
}

const round = (value) => Math.round(value * 10) / 10;
