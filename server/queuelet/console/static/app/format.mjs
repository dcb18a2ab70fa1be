/** Numbers, sizes and durations as text. Texts are short, and the same everywhere. */

const WHOLE = new Intl.NumberFormat("en");
const TENTH = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/**
 * A count with separators. Text is a number too large for a double, such as "9223372036854775807", and stays exact.
 * @param {number | string | undefined} value
 */
export const count = (value) =>
  typeof value === "string" ? WHOLE.format(BigInt(value)) : WHOLE.format(value ?? 0);

/**
 * A count with its noun: "1 message", "2 messages".
 * @param {number} value
 * @param {string} noun
 */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/**
 * A rate per second.
 * @param {number} value
 */
export const rate = (value) => (value > 0 && value < 9.95 ? TENTH.format(value).replace(".0", "") : count(Math.round(value)));

/**
 * A share in percent, with a tenth if it is small.
 * @param {number} value
 * @param {number} of
 */
export function percent(value, of) {
  const share = of > 0 ? (value / of) * 100 : 0;
  return `${share > 0 && share < 9.95 ? TENTH.format(share) : Math.round(share)} %`;
}

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];

/**
 * A size in bytes.
 * @param {number} value
 */
export function bytes(value) {
  let unit = 0;
  while (value >= 1000 && unit < SIZES.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 9.95 ? count(Math.round(value)) : TENTH.format(value)} ${SIZES[unit]}`;
}

/**
 * A duration, by its largest unit.
 * @param {number} ms milliseconds
 */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 0.05) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 0.95) return `${TENTH.format(seconds)} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  if (seconds < 99.5 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 47.5 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${count(Math.round(seconds / 86400))} d`;
}

/**
 * The end of an ID, which differs between neighbours.
 * @param {string} id
 */
export const shortId = (id) => `…${id.slice(-4)}`;

/**
 * The milliseconds of a time of the API, such as "2030-01-31T18:00:00Z"; 0 if there is none.
 * @param {string | undefined} text
 */
export const millis = (text) => (text ? Date.parse(text) : 0);
