// The picture: layers of an answer as steps, one on the other. It is drawn in doubles; what it says is exact.

import { h } from "./dom.js";
import { change, percent } from "./figures.js";
import { heights, sums } from "./stack.js";
import { DAY_S, following, readable, rfc3339, unitName } from "./times.js";

const HEIGHT = 320;
const LOW = 240;
// Between two layers lies a line of the colour behind them, unless the steps are too narrow for it.
const LINE = 0.75;
const WIDE_STEPS = 80;
// So few steps are bars, with gaps between them.
const BARS = 40;
const NARROW = 600;
// Room that the box at the pointer needs beside a step.
const BOX = 300;
// How much of its colour a layer keeps while another one stands out.
const FADED = 0.28;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SCREENS = ["screen and (prefers-color-scheme: dark)", "print"];

/**
 * A picture of a stack.
 *
 * @param stack layers, the largest first
 * @param unit what one step is, and `at`, the beginnings of the steps
 * @param axis `{per, name}`: exact value of one unit of the axis, and its name; `shown` writes an exact value
 * @param label what it shows, for who cannot see it; `named` writes the name of a layer
 * @param onRange called with the seconds of a range that somebody drew
 * @returns an element with `light(depth)`, and `compare(values, name)` for the exact values of another period
 */
export function chart(stack, { unit, at, axis, shown, label, named, onRange }) {
  const box = h("div", { class: "tip", "aria-hidden": "true", hidden: true });
  const frame = h("div", { class: "chart", role: "img", "aria-label": label });
  const holder = h("div", { class: "chart-holder" }, frame, box);
  const totals = sums(stack);
  const end_s = following(unit, at.at(-1));
  const data = [[...at, end_s], ...heights(stack, axis.per)];
  // The end of the last step is none itself.
  if (at.length <= BARS) for (const values of data.slice(1)) values[at.length] = null;
  let drawn = null;
  let lit = -1;
  let earlier = null;

  function draw() {
    const width = Math.floor(holder.clientWidth);
    if (!width) return;
    drawn?.destroy();
    const began = performance.now();
    drawn = new uPlot(options(width), data, frame);
    // Its canvas is painted in a task of its own; a reader of this figure asks for the whole of it.
    queueMicrotask(() => (holder.dataset.drawnMs = String(Math.round((performance.now() - began) * 10) / 10)));
  }

  function options(width) {
    const colours = getComputedStyle(holder);
    const [paper, ink, line, strong] = ["--card", "--soft", "--grid", "--ink"].map((name) =>
      colours.getPropertyValue(name).trim(),
    );
    const font = `12px ${colours.fontFamily}`;
    const plain = { stroke: ink, font, labelFont: font, grid: { stroke: line }, ticks: { stroke: line } };
    const stepped = uPlot.paths.stepped({ align: 1 });
    const paths = at.length > BARS ? stepped : uPlot.paths.bars({ size: [0.88], align: 1 });
    const points = { show: false };
    const series = stack.map((layer, depth) => {
      const own = colours.getPropertyValue(layer.count ? "--other" : `--c${depth}`).trim();
      const fill = () => (lit < 0 || lit === depth ? own : mixed(own, paper));
      return { label: layer.name, fill, stroke: paper, width: at.length > WIDE_STEPS ? 0 : LINE, points, paths };
    });
    const dashed = { stroke: strong, width: 1.5, dash: [5, 4], points, paths: stepped };
    return {
      width,
      height: width < NARROW ? LOW : HEIGHT,
      padding: [12, 8, 0, 0],
      legend: { show: false },
      tzDate: (value_s) => uPlot.tzDate(new Date(value_s * 1000), "Etc/UTC"),
      scales: { x: { range: () => [at[0], end_s] }, y: { range: (_u, _low, high) => [0, high > 0 ? high * 1.04 : 1] } },
      axes: [
        { ...plain, size: 44, space: 70, values: (...given) => timeLabels(end_s, ...given) },
        { ...plain, values: (_u, values) => values.map((each) => `${axisNumber(each)} ${axis.name}`), size: axisWidth },
      ],
      series: [{}, ...series.reverse(), ...(earlier ? [dashed] : [])],
      cursor: { y: false, points: { show: false }, drag: { x: Boolean(onRange), y: false, setScale: false } },
      hooks: { setCursor: [point], setSelect: [select] },
    };
  }

  /** Lets a layer stand out; -1 lets none. */
  function light(depth) {
    if (depth === lit) return;
    lit = depth;
    holder.dataset.lit = String(depth);
    drawn?.redraw(false);
    holder.dispatchEvent(new CustomEvent("lit", { detail: depth }));
  }

  function point(plot) {
    const { left, top, idx } = plot.cursor;
    const none = idx === null || idx === undefined || left < 0;
    const index = none ? -1 : Math.min(stepAt(plot.posToVal(left, "x")), at.length - 1);
    box.hidden = index < 0;
    light(index < 0 ? -1 : layerAt(index, plot.posToVal(top, "y")));
    if (index < 0) return;
    box.replaceChildren(...lines(index));
    place(plot, index);
  }

  // Beside the step, and never on it; below the picture if neither side has room.
  function place(plot, index) {
    const beside = plot.bbox.left / devicePixelRatio;
    const [first, last] = [at[index], at[index + 1] ?? end_s].map((each) => plot.valToPos(each, "x") + beside);
    const right = last + BOX < holder.clientWidth;
    const left = !right && first > BOX;
    box.className = `tip ${right ? "" : left ? "flipped" : "under"}`;
    box.style.setProperty("--at", `${Math.round(right ? last : first)}px`);
  }

  function layerAt(index, value) {
    let below = 0;
    for (const [depth, layer] of stack.entries()) {
      below += Number(layer.values[index]) / Number(axis.per);
      if (value >= 0 && value < below) return depth;
    }
    return -1;
  }

  function stepAt(value_s) {
    let index = 0;
    while (index + 1 < at.length && at[index + 1] <= value_s) index += 1;
    return index;
  }

  // The layer under the pointer leads; the others follow as they lie, from the top of the step to its bottom.
  function lines(index) {
    const all = stack.map((layer, depth) => ({ layer, depth, value: layer.values[index] }));
    const others = all.filter(({ value, depth }) => value !== 0n && depth !== lit).reverse();
    const line = ({ layer, depth, value }) =>
      h(
        "div",
        { class: `tip-line${depth === lit ? " lit" : ""}` },
        swatch(depth, layer.count),
        h("span", {}, named(layer)),
        h("b", {}, shown(value)),
        h("i", {}, percent(value, totals[index])),
      );
    const was = earlier?.values[index];
    return [
      h("div", { class: "tip-head" }, readable(unitName(unit, at[index])), h("b", {}, shown(totals[index]))),
      ...(lit < 0 ? [] : [line(all[lit])]),
      ...others.map(line),
      was === undefined
        ? ""
        : h(
            "div",
            { class: "tip-line earlier" },
            h("span", { class: "dash" }),
            h("span", {}, earlier.name),
            h("b", {}, shown(was)),
            h("i", {}, change(totals[index], was)),
          ),
    ];
  }

  function select(plot) {
    const { left, width } = plot.select;
    if (!onRange || width < 4) return;
    const first = stepAt(plot.posToVal(left, "x"));
    const last = stepAt(plot.posToVal(left + width, "x"));
    onRange(at[first], following(unit, at[last]));
  }

  const screens = SCREENS.map((each) => matchMedia(each));
  for (const each of screens) each.addEventListener("change", draw);
  let before = 0;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(holder.clientWidth);
    if (width !== before) draw();
    before = width;
  });
  observer.observe(holder);
  holder.light = light;
  holder.compare = (values, name) => {
    earlier = { values, name };
    const heights_ = at.map((_, index) => Number(values[index] ?? 0n) / Number(axis.per));
    data.push([...heights_, heights_.at(-1)]);
    holder.dataset.compared = name;
    draw();
  };
  holder.remove_ = () => {
    observer.disconnect();
    for (const each of screens) each.removeEventListener("change", draw);
    drawn?.destroy();
  };
  return holder;
}

// A colour of six digits on paper of six digits: layers lie on each other, so none may be transparent.
function mixed(colour, paper) {
  const parts = [1, 3, 5].map((at) => {
    const [own, back] = [colour, paper].map((each) => parseInt(each.slice(at, at + 2), 16));
    return Math.round(own * FADED + back * (1 - FADED));
  });
  return `rgb(${parts})`;
}

export function swatch(depth, other = false) {
  return h("span", { class: "swatch", "aria-hidden": "true", "--c": `var(--${other ? "other" : `c${depth}`})` });
}

/** What a picture shows, in a sentence. */
export function described(stack, { what, unit, at, shown }) {
  const total = stack.reduce((all, layer) => all + layer.total, 0n);
  const first = stack[0];
  const parts = [
    `${what} by ${unit} in UTC, from ${readable(rfc3339(at[0]))}, ${at.length} steps: ${shown(total)} in all.`,
  ];
  if (first && total > 0n) parts.push(`The largest is ${first.name} with ${percent(first.total, total)}.`);
  return `${parts.join(" ")} The tables below have all figures.`;
}

function timeLabels(end_s, _plot, splits, _axis, _space, step_s) {
  let before = "";
  return splits.map((value_s) => {
    if (value_s >= end_s) return null;
    const date = new Date(value_s * 1000);
    const day = `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
    const first = day !== before;
    before = day;
    if (step_s >= 28 * DAY_S) return `${MONTHS[date.getUTCMonth()]}\n${date.getUTCFullYear()}`;
    if (step_s >= DAY_S) return day;
    const clock = rfc3339(value_s).slice(11, 16);
    return first ? `${clock}\n${day}` : clock;
  });
}

function axisNumber(value) {
  return new Intl.NumberFormat("en", { maximumSignificantDigits: 6 }).format(value);
}

// With the width that uPlot has by default, long numbers are cut.
function axisWidth(_plot, values) {
  const longest = Math.max(0, ...(values ?? []).map((each) => each.length));
  return 16 + longest * 7.2;
}
