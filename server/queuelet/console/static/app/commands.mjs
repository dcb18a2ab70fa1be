/** Acts as commands for a shell: of `queuelet`, and of curl. */

/**
 * A word for a POSIX shell.
 * @param {unknown} word
 */
export function quoted(word) {
  const text = String(word);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** @param {unknown[]} words those that are undefined are left out */
export const shell = (...words) => words.filter((word) => word !== undefined).map(quoted).join(" ");

/**
 * A call of the REST API by curl.
 * @param {string} method
 * @param {string} path relative to the page, with its query
 * @param {object} [body]
 */
export function curl(method, path, body) {
  const words = ["curl", "-fsS"];
  if (method !== "GET" && !(method === "POST" && body)) words.push("-X", method);
  if (body) words.push("-H", "Content-Type: application/json", "-d", JSON.stringify(body));
  return shell(...words, urlOf(path));
}

/** @param {string} path relative to the page */
const urlOf = (path) => new URL(path, document.baseURI.replace(/[#?].*$/s, "")).href;

/**
 * A call that saves lines of JSON, by curl.
 * @param {string} path relative to the page, with its query
 * @param {string} file
 */
export const curlLines = (path, file) => shell("curl", "-fsS", "-H", "Accept: application/x-ndjson", urlOf(path), "-o", file);

/**
 * The flags that select messages, as the commands purge and redrive take them.
 * @param {{ids?: string[], selector?: string, all?: boolean}} chosen
 */
export const selecting = ({ ids, selector }) =>
  ids ? ids.flatMap((id) => ["--id", id]) : selector ? ["-l", selector] : ["--all"];
