/** Rows of a long table: only those near the window exist, in slots that are used again while scrolling. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.mjs";

const BEYOND = 10;
/** Scrolling is rounded to this many rows, so that most scroll events change nothing. */
const STEP = 4;
/** More rows than this are never on the page at once. */
const MOST = 120;

/**
 * The table body of `length` rows. `row(i, slot)` renders one.
 * @param {{length: number, columns: number, active: number, row: (i: number) => unknown}} props
 */
export function Rows({ length, columns, active, row }) {
  const top = useRef(/** @type {HTMLElement | null} */ (null));
  const [range, setRange] = useState({ from: 0, to: 40, height: 40 });
  const update = () => {
    const place = top.current;
    if (!place) return;
    const height = parseFloat(getComputedStyle(place).getPropertyValue("--row")) || 40;
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
    addEventListener("scroll", act, { passive: true });
    addEventListener("resize", act);
    return () => {
      removeEventListener("scroll", act);
      removeEventListener("resize", act);
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
  for (let i = from; i < to; i += 1) shown.push(html`<${Slot} key=${i % slots} i=${i} row=${row} />`);
  return html`<tbody ref=${top}>
    <${Space} key="above" height=${from * range.height} columns=${columns} />
    ${shown}
    <${Space} key="below" height=${(length - to) * range.height} columns=${columns} />
  </tbody>`;
}

/** @param {{i: number, row: (i: number) => unknown}} props */
const Slot = ({ i, row }) => row(i);

/** @param {{height: number, columns: number}} props */
const Space = ({ height, columns }) =>
  height > 0 && html`<tr class="space" aria-hidden="true"><td colspan=${columns} style=${{ "--h": `${height}px` }}></td></tr>`;
