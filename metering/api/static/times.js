// Times, all in UTC. Seconds since 1970 inside, RFC 3339 in addresses and in what is asked.

export const HOUR_S = 3600;
export const DAY_S = 24 * HOUR_S;

// The longest ranges that are drawn by hour and by day: few steps are read at a glance.
const HOURLY_S = 2 * DAY_S;
const DAILY_S = 100 * DAY_S;
const TIME = /^(\d{4})-(\d{2})(?:-(\d{2})(?:(?:T(?=.*Z$|.*\+00:00$)| )(\d{2}):(\d{2})(?::(\d{2}))?(?:Z|\+00:00)?)?)?$/;
const LENGTHS = { hour: 13, day: 10, month: 7 };

export const RANGES = {
  "24h": "24 hours",
  "7d": "7 days",
  "30d": "30 days",
  month: "This month",
  "last-month": "Last month",
};

/** Seconds of a month, day or time in UTC; null if the text is none of these. */
export function seconds(text) {
  const found = TIME.exec((text ?? "").trim());
  if (!found) return null;
  const [year, month, day, hour, minute, second] = found.slice(1).map((each, at) => Number(each ?? (at === 2 ? 1 : 0)));
  const value = Date.UTC(year, month - 1, day, hour, minute, second) / 1000;
  // 2026-02-31 is not the third of March.
  return rfc3339(value).startsWith(text.trim().slice(0, 10)) && hour < 24 && minute < 60 && second < 60 ? value : null;
}

export function rfc3339(value_s) {
  return `${new Date(value_s * 1000).toISOString().slice(0, 19)}Z`;
}

/** As short as it can be written: a day if it is the beginning of one, else without seconds if there are none. */
export function short(value_s) {
  const text = rfc3339(value_s);
  return value_s % DAY_S === 0 ? text.slice(0, 10) : text.replace(/:00Z$/, "Z");
}

/** For people: `2026-11-24 13:00`; the heading says that it is UTC. */
export function readable(text) {
  return String(text).replace(/^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2})(?::00)?(:\d{2})?Z$/, "$1 $2$3");
}

/** A named range as seconds; `to_s` is the end of the hour that runs now, or of the month that is over. */
export function named(name, now_s) {
  const end_s = now_s - (now_s % HOUR_S) + HOUR_S;
  const day_s = now_s - (now_s % DAY_S);
  const [year, month] = rfc3339(now_s).split("-").map(Number);
  const first_s = Date.UTC(year, month - 1) / 1000;
  return {
    "24h": { from_s: end_s - DAY_S, to_s: end_s },
    "7d": { from_s: day_s - 6 * DAY_S, to_s: end_s },
    "30d": { from_s: day_s - 29 * DAY_S, to_s: end_s },
    month: { from_s: first_s, to_s: end_s },
    "last-month": { from_s: Date.UTC(year, month - 2) / 1000, to_s: first_s },
  }[name];
}

/** The period before a range, and its name: as long, and of whole days, so that a week is compared with a week. */
export function before({ name: range, from_s, to_s }) {
  const length_s = to_s - from_s;
  const first_s = beginning("month", from_s - 1);
  const whole = from_s === beginning("month", from_s) && to_s === following("month", from_s);
  if (whole || range?.endsWith("month"))
    return { from_s: first_s, to_s: Math.min(from_s, first_s + length_s), name: "the month before" };
  const days = Math.ceil(length_s / DAY_S);
  const by_s = days * DAY_S;
  const name = { 1: "the day before", 7: "the week before" }[days] ?? `the ${days} days before`;
  return { from_s: from_s - by_s, to_s: to_s - by_s, name };
}

/** The unit of time that a range is drawn by. */
export function unitOf({ from_s, to_s }) {
  return to_s - from_s <= HOURLY_S ? "hour" : to_s - from_s <= DAILY_S ? "day" : "month";
}

/** The beginning of the unit that a time is in. */
export function beginning(unit, value_s) {
  if (unit !== "month") return value_s - (value_s % (unit === "hour" ? HOUR_S : DAY_S));
  const [year, month] = rfc3339(value_s).split("-").map(Number);
  return Date.UTC(year, month - 1) / 1000;
}

/** The beginning of the next unit. */
export function following(unit, value_s) {
  if (unit !== "month") return value_s + (unit === "hour" ? HOUR_S : DAY_S);
  const [year, month] = rfc3339(value_s).split("-").map(Number);
  return Date.UTC(year, month) / 1000;
}

/** Beginnings of all units in a range, also of those without usage; nothing that is to come. */
export function steps(unit, { from_s, to_s }, now_s) {
  const found = [];
  const end_s = Math.min(to_s, Math.max(now_s, from_s) + 1);
  for (let at_s = beginning(unit, from_s); at_s < end_s; at_s = following(unit, at_s)) found.push(at_s);
  return found;
}

/** The name of a unit as an answer writes it: `2026-11`, `2026-11-24` or `2026-11-24T13:00:00Z`. */
export function unitName(unit, value_s) {
  return unit === "hour" ? rfc3339(value_s) : rfc3339(value_s).slice(0, LENGTHS[unit]);
}
