// The picture: layers of an answer as steps, one on the other. It is drawn in doubles; what it says is exact.

import { h } from "./dom.js";
import { GB, percent } from "./figures.js";
import { heights, sums } from "./stack.js";
import { DAY_S, following, readable, rfc3339, unitName } from "./times.js";

const HEIGHT = 320;
const LOW = 240;
// Between two layers lies a line of the colour behind them, unless the steps are too narrow for it.
const LINE = 0.75;
const WIDE_STEPS = 80;
const NARROW = 600;
// Lines of the box at the pointer; the table has them all.
const NAMED = 8;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/**
 * A picture of a stack.
 *
 * @param stack layers, the largest first
 * @param unit what one step is, and `at`, the beginnings of the steps
 * @param per exact value of one unit of the axis; `heading` names the axis; `shown` writes an exact value
 * @param label what it shows, for who cannot see it
 * @param onRange called with the seconds of a range that somebody drew
 */
export function chart(stack, { unit, at, per = GB, heading, shown, label, onRange }) {
  const box = h("div", { class: "tip", "aria-hidden": "true", hidden: true });
  const frame = h("div", { class: "chart", role: "img", "aria-label": label });
  const holder = h("div", { class: "chart-holder" }, frame, box);
  const totals = sums(stack);
  const end_s = following(unit, at.at(-1));
  const data = [[...at, end_s], ...heights(stack, per)];
  let drawn = null;

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
    const paper = colours.getPropertyValue("--card");
    const ink = colours.getPropertyValue("--soft");
    const line = colours.getPropertyValue("--grid");
    const font = `12px ${colours.fontFamily}`;
    const axis = {
      stroke: ink,
      font,
      labelFont: font,
      grid: { stroke: line, width: 1 },
      ticks: { stroke: line, width: 1 },
    };
    const series = stack.map((layer, depth) => {
      const fill = colours.getPropertyValue(layer.count ? "--other" : `--c${depth}`);
      return {
        label: layer.name,
        fill,
        stroke: paper,
        width: at.length > WIDE_STEPS ? 0 : LINE,
        points: { show: false },
        paths: uPlot.paths.stepped({ align: 1 }),
      };
    });
    return {
      width,
      height: width < NARROW ? LOW : HEIGHT,
      legend: { show: false },
      tzDate: (value_s) => uPlot.tzDate(new Date(value_s * 1000), "Etc/UTC"),
      scales: { x: { range: () => [at[0], end_s] }, y: { range: (_u, _low, high) => [0, high > 0 ? high * 1.04 : 1] } },
      axes: [
        { ...axis, label: "UTC", labelSize: 20, size: 52, space: 70, values: timeLabels },
        { ...axis, label: heading, labelSize: 22, values: (_u, values) => values.map(axisNumber), size: axisWidth },
      ],
      series: [{}, ...series.reverse()],
      cursor: { y: false, points: { show: false }, drag: { x: Boolean(onRange), y: false, setScale: false } },
      hooks: { setCursor: [point], setSelect: [select] },
    };
  }

  function point(plot) {
    const { left, idx } = plot.cursor;
    const index =
      idx === null || idx === undefined || left < 0 ? -1 : Math.min(stepAt(plot.posToVal(left, "x")), at.length - 1);
    box.hidden = index < 0;
    if (index < 0) return;
    box.replaceChildren(...lines(index));
    const beside = left + plot.bbox.left / devicePixelRatio;
    box.style.setProperty("--at", `${Math.round(beside)}px`);
    box.classList.toggle("flipped", left > plot.over.clientWidth / 2);
  }

  function stepAt(value_s) {
    let index = 0;
    while (index + 1 < at.length && at[index + 1] <= value_s) index += 1;
    return index;
  }

  function lines(index) {
    const named = stack
      .map((layer, depth) => ({ layer, depth, value: layer.values[index] }))
      .filter(({ value }) => value > 0n);
    const top = named
      .slice(0, NAMED)
      .map(({ layer, depth, value }) =>
        h(
          "div",
          { class: "tip-line" },
          swatch(depth, layer.count),
          h("span", {}, layer.name || "(none)"),
          h("b", {}, shown(value)),
        ),
      );
    const more = named.length - top.length;
    return [
      h("div", { class: "tip-head" }, readable(unitName(unit, at[index])), h("b", {}, shown(totals[index]))),
      ...top,
      more > 0 ? h("div", { class: "tip-more" }, `and ${more} more`) : "",
    ];
  }

  function select(plot) {
    const { left, width } = plot.select;
    if (!onRange || width < 4) return;
    const first = stepAt(plot.posToVal(left, "x"));
    const last = stepAt(plot.posToVal(left + width, "x"));
    onRange(at[first], following(unit, at[last]));
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", draw);
  let before = 0;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(holder.clientWidth);
    if (width !== before) draw();
    before = width;
  });
  observer.observe(holder);
  holder.remove_ = () => {
    observer.disconnect();
    dark.removeEventListener("change", draw);
    drawn?.destroy();
  };
  return holder;
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

function timeLabels(_plot, splits, _axis, _space, step_s) {
  let before = "";
  return splits.map((value_s) => {
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

// With the width that uPlot has by default, label and numbers overlap from a million on.
function axisWidth(_plot, values) {
  const longest = Math.max(0, ...(values ?? []).map((each) => each.length));
  return 18 + longest * 7.2;
}
