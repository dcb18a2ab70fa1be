/** JSON as coloured text. It is never turned into values, because numbers above 2^53 would be rounded. */

/** @typedef {{kind: string, text: string}} Token */

const LEXEME = /\s*(?:("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)|(true|false|null)|([{}[\],:]))/y;

/** The most characters that are coloured. More would make the page slow. */
export const MOST = 200_000;

/**
 * The lexemes of a JSON text, or null if it is not one.
 * @param {string} text
 */
function lexemes(text) {
  const found = [];
  LEXEME.lastIndex = 0;
  const end = text.trimEnd().length;
  while (LEXEME.lastIndex < end) {
    const match = LEXEME.exec(text);
    if (!match) return null;
    const [, string, number, word, mark] = match;
    found.push({ kind: string ? "s" : number ? "n" : word ? "w" : mark, text: string ?? number ?? word ?? mark });
  }
  return found;
}

/** @type {Record<string, string>} */
const CLOSES = { "}": "{", "]": "[" };

/**
 * The tokens of a JSON text with line breaks and indentation, or null if it is not JSON.
 * @param {string} text
 * @returns {Token[] | null}
 */
export function tokens(text) {
  const first = text.trimStart()[0];
  if (text.length > MOST || (first !== "{" && first !== "[")) return null;
  const found = lexemes(text);
  if (!found || !isWellFormed(found)) return null;
  /** @type {Token[]} */
  const out = [];
  let level = 0;
  const line = () => out.push({ kind: "", text: `\n${"  ".repeat(Math.min(level, 40))}` });
  found.forEach(({ kind, text: lexeme }, i) => {
    const next = found[i + 1]?.kind;
    const isEmpty = (kind === "{" && next === "}") || (kind === "[" && next === "]");
    if (kind in CLOSES) {
      level -= 1;
      if (found[i - 1].kind !== CLOSES[kind]) line();
    }
    out.push({ kind: kind === "s" && next === ":" ? "k" : kind.length === 1 && "snw".includes(kind) ? kind : "", text: lexeme });
    if (kind === "{" || kind === "[") {
      level += 1;
      if (!isEmpty) line();
    } else if (kind === ",") line();
    else if (kind === ":") out.push({ kind: "", text: " " });
  });
  return out;
}

/**
 * Whether lexemes form one value, by the rules of JSON.
 * @param {Token[]} all
 */
function isWellFormed(all) {
  const open = [];
  let wants = "value";
  for (const { kind } of all) {
    const inside = open.at(-1);
    if (wants === "value" || wants === "value or ]") {
      if (kind === "]" && wants === "value or ]") wants = closed(open);
      else if (kind === "{") wants = (open.push("{"), "key or }");
      else if (kind === "[") wants = (open.push("["), "value or ]");
      else if (kind === "s" || kind === "n" || kind === "w") wants = open.length ? "comma" : "end";
      else return false;
    } else if (wants === "key" || wants === "key or }") {
      if (kind === "}" && wants === "key or }") wants = closed(open);
      else if (kind === "s") wants = "colon";
      else return false;
    } else if (wants === "colon") {
      if (kind !== ":") return false;
      wants = "value";
    } else if (wants === "comma") {
      if (kind === ",") wants = inside === "{" ? "key" : "value";
      else if (CLOSES[kind] === inside) wants = closed(open);
      else return false;
    } else return false;
  }
  return wants === "end";
}

/** @param {string[]} open */
function closed(open) {
  open.pop();
  return open.length ? "comma" : "end";
}
