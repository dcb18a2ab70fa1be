/** Rows of a long table: only those near the window exist, in slots that are used again while scrolling. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.mjs";

const BEYOND = 10;
/** Scrolling is rounded to this many rows, so that most scroll events change nothing. */
const STEP = 4;
/** More rows than this are never on the page at once. */
const MOST = 120;

/**
 * The table body of `length` rows. `row(i, face)` renders one, but only if `face(i)`, which has everything that the row
 * shows, is not what it was when the row was last rendered.
 * @param {{length: number, active: number, row: (i: number, face: unknown[]) => unknown, face: (i: number) => unknown[]}} props
 */
export function Rows({ length, active, row, face }) {
  const top = useRef(/** @type {HTMLElement | null} */ (null));
  const rendered = useRef(/** @type {Map<number, {face: unknown[], slot: unknown}>} */ (new Map()));
  const rowHeight = useRef(0);
  const [range, setRange] = useState({ from: 0, to: 40, height: 40 });
  const update = () => {
    const place = top.current;
    if (!place) return;
    const height = (rowHeight.current ||= parseFloat(getComputedStyle(place).getPropertyValue("--row")) || 40);
    const above = -place.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / height / STEP) * STEP - BEYOND);
    const count = Math.min(MOST, Math.ceil(innerHeight / height / STEP) * STEP + 2 * BEYOND + STEP);
    const from = Math.max(0, Math.min(first, Math.ceil((length - count) / STEP) * STEP));
    setRange((old) => (old.from === from && old.to === from + count && old.height === height ? old : { from, to: from + count, height }));
  };
  const latest = useRef(update);
  latest.current = update;
  useEffect(() => {
    const act = () => latest.current();
    const measure = () => {
      rowHeight.current = 0; // The style has another one for narrow windows.
      act();
    };
    addEventListener("scroll", act, { passive: true });
    addEventListener("resize", measure);
    return () => {
      removeEventListener("scroll", act);
      removeEventListener("resize", measure);
    };
  }, []);
  useLayoutEffect(update, [length]);
  useLayoutEffect(() => {
    if (active < 0 || !top.current) return;
    const y = top.current.getBoundingClientRect().top + active * range.height;
    if (y < 60) scrollBy(0, y - 60);
    else if (y > innerHeight - 2 * range.height) scrollBy(0, y - innerHeight + 2 * range.height);
  }, [active]);
  const from = Math.min(range.from, length);
  const to = Math.min(range.to, length);
  const slots = range.to - range.from || 1;
  const shown = [];
  const before = rendered.current;
  rendered.current = new Map();
  for (let i = from; i < to; i += 1) {
    const key = i % slots;
    const present = face(i);
    const old = before.get(key);
    // Preact passes over what is the same object as before.
    const each = old && isSame(old.face, present) ? old : { face: present, slot: html`<${Slot} key=${key} i=${i} face=${present} row=${row} />` };
    rendered.current.set(key, each);
    shown.push(each.slot);
  }
  return html`<tbody ref=${top}>
    <${Space} key="above" height=${from * range.height} />
    ${shown}
    <${Space} key="below" height=${(length - to) * range.height} />
  </tbody>`;
}

/**
 * @param {unknown[]} some
 * @param {unknown[]} others
 */
const isSame = (some, others) => some.every((each, i) => each === others[i]);

/** @param {{i: number, face: unknown[], row: (i: number, face: unknown[]) => unknown}} props */
const Slot = ({ i, face, row }) => row(i, face);

/**
 * The height of rows that do not exist. One cell, because more would be columns of a table that hides some of its own.
 * @param {{height: number}} props
 */
const Space = ({ height }) =>
  height > 0 && html`<tr class="space" aria-hidden="true"><td style=${{ "--h": `${height}px` }}></td></tr>`;
