/** Filters of queues: a part of the name, or a selector on tags as in `kubectl -l`. */

/** @typedef {(queue: import("./board.mjs").Queue) => boolean} Test */

const TERM =
  /^\s*(?:(!)\s*([^\s!=,()]+)|([^\s!=,()]+)\s+(in|notin)\s*\(([^()]*)\)|([^\s!=,()]+)\s*(==|!=|=)\s*([^,()]*?)|([^\s!=,()]+))\s*(?:,|$)/;

/**
 * The test of a filter. A text with none of `=`, `!`, `,` and ` in (` is a part of the name.
 * @param {string} text
 * @returns {Test | string} the test, or what is wrong with the filter
 */
export function filterOf(text) {
  const trimmed = text.trim();
  if (!trimmed) return () => true;
  if (!/[=!,]|\b(not)?in\s*\(/.test(trimmed)) {
    const part = trimmed.toLowerCase();
    return (queue) => queue.label.toLowerCase().includes(part);
  }
  return selectorOf(trimmed);
}

/**
 * @param {string} text
 * @returns {Test | string}
 */
function selectorOf(text) {
  /** @type {((tags: string[]) => boolean)[]} */
  const tests = [];
  let rest = text;
  while (rest) {
    const match = TERM.exec(rest);
    if (!match) return `not understood from “${rest.slice(0, 40)}”; write team=a, tier!=b, zone in (x, y), old or !old`;
    rest = rest.slice(match[0].length);
    tests.push(termOf(match));
  }
  return (queue) => tests.every((test) => test(queue.tags));
}

/**
 * @param {RegExpExecArray} match
 * @returns {(tags: string[]) => boolean}
 */
function termOf([, not, absent, setKey, set, list, key, operator, value, present]) {
  if (not) return (tags) => valuesOf(tags, absent).length === 0;
  if (present) return (tags) => valuesOf(tags, present).length > 0;
  const wanted = set ? list.split(",").map((each) => each.trim()) : [value];
  const positive = set === "in" || operator === "=" || operator === "==";
  return (tags) => valuesOf(tags, setKey ?? key).some((each) => wanted.includes(each)) === positive;
}

/**
 * @param {string[]} tags each as key=value
 * @param {string} key
 */
const valuesOf = (tags, key) =>
  tags.filter((tag) => tag.startsWith(`${key}=`)).map((tag) => tag.slice(key.length + 1));
