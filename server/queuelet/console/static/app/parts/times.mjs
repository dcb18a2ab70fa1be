/** Times: local, UTC or relative, as the user has chosen. */
import { html } from "../html.mjs";
import { now, tick } from "../board.mjs";
import { duration } from "../format.mjs";
import { clock } from "../settings.mjs";

const OPTIONS = /** @type {const} */ ({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = /** @type {const} */ ({ year: "numeric", month: "2-digit", day: "2-digit" });
const FORMATS = {
  local: { time: new Intl.DateTimeFormat("en-CA", OPTIONS), day: new Intl.DateTimeFormat("en-CA", DAY) },
  utc: {
    time: new Intl.DateTimeFormat("en-CA", { ...OPTIONS, timeZone: "UTC" }),
    day: new Intl.DateTimeFormat("en-CA", { ...DAY, timeZone: "UTC" }),
  },
};

/**
 * How long ago a time is, or how far ahead.
 * @param {number} ms
 */
export function relative(ms) {
  const past = now() - ms;
  return past >= 0 ? `${duration(past)} ago` : `in ${duration(-past)}`;
}

/**
 * A time of a clock, with its day unless that is today.
 * @param {number} ms
 * @param {string} mode
 */
export function absolute(ms, mode) {
  const { time, day } = FORMATS[mode === "utc" ? "utc" : "local"];
  const suffix = mode === "utc" ? "Z" : "";
  const today = day.format(now()) === day.format(ms);
  return today ? time.format(ms) + suffix : `${day.format(ms)} ${time.format(ms)}${suffix}`;
}

/**
 * A time. With `both`, its distance follows in brackets.
 * @param {{ms: number, both?: boolean}} props
 */
export function Time({ ms, both = false }) {
  if (!ms) return "—";
  const mode = clock.value;
  if (mode === "relative") tick.value;
  const text = mode === "relative" ? relative(ms) : absolute(ms, mode);
  const title = mode === "relative" ? absolute(ms, "local") : relative(ms);
  const iso = new Date(ms).toISOString();
  return html`<time datetime=${iso} title=${`${iso}, ${title}`}>${text}</time>${both && mode !== "relative" && html`<span class="muted"> (${relative(ms)})</span>`}`;
}

/**
 * The values of a chart's time axis.
 * @param {number[]} seconds
 * @param {string} mode
 */
export function axisTimes(seconds, mode) {
  if (mode === "relative") return seconds.map((each) => `−${duration(now() - each * 1000)}`);
  const length = seconds.length > 1 && seconds[1] - seconds[0] < 60 ? 8 : 5;
  return seconds.map((each) => FORMATS[mode === "utc" ? "utc" : "local"].time.format(each * 1000).slice(0, length));
}
