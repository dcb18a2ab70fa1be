/** Charts, drawn by uPlot. It is a plain script, which the page has loaded before its modules. */
import { html, useEffect, useRef } from "../html.mjs";
import { axisTimes } from "./times.mjs";
import { clock, theme } from "../settings.mjs";

/** Seconds between two labels of the time axis. uPlot's own list leaves narrow charts with one label. */
const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];
/** Half of the width of a label's character, in pixels. */
const HALF_CHARACTER = 3.5;
/** The pixels right of a chart's area, where a label may end. */
const EDGE = 8;

/** @param {string} name of a variable of the style */
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/**
 * @typedef {object} Line
 * @property {string} label
 * @property {string} stroke a variable of the style
 * @property {string} [fill]
 */

/**
 * Lines over time, which step, because a number stays until it changes.
 * @param {{data: number[][], lines: Line[], label: string, height: number, strip?: boolean}} props `data` begins with the times in seconds
 */
export function Chart({ data, lines, label, height, strip = false }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  const mode = clock.value;
  useEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    plot.current = make(element, lines, height, strip, mode, data);
    const observer = new ResizeObserver(() => plot.current.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => {
      plot.current.destroy();
      plot.current = make(element, lines, height, strip, mode, plot.current.data);
    };
    scheme.addEventListener("change", redraw);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", redraw);
      plot.current.destroy();
    };
  }, [mode, theme.value, height]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);
  return html`<div class="plot" style=${{ height: `${height}px` }} ref=${place} role="img" aria-label=${label}></div>`;
}

/**
 * Labels without those that the chart's right edge would cut.
 * @param {any} plot
 * @param {number[]} at
 * @param {string[]} labels
 */
const uncut = (plot, at, labels) =>
  labels.map((text, i) => (plot.valToPos(at[i], "x") + text.length * HALF_CHARACTER > plot.over.clientWidth + EDGE ? "" : text));

/**
 * @param {HTMLElement} element
 * @param {Line[]} lines
 * @param {number} height
 * @param {boolean} strip
 * @param {string} mode
 * @param {number[][]} data
 */
function make(element, lines, height, strip, mode, data) {
  const { uPlot } = /** @type {any} */ (globalThis);
  const stepped = uPlot.paths.stepped({ align: 1 });
  const axis = { stroke: colour("--muted"), ticks: { show: false }, font: "12px Inter, system-ui, sans-serif" };
  return new uPlot(
    {
      width: element.clientWidth,
      height,
      padding: strip ? [2, 8, 2, 0] : [8, 8, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      legend: { show: false },
      scales: { y: { range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ top) => [0, Math.max(1, top * (strip ? 1.6 : 1.12))] } },
      axes: [
        { ...axis, show: !strip, size: 32, gap: 8, space: 84, incrs: TIMES, grid: { show: false }, values: (/** @type {any} */ plot, /** @type {number[]} */ at) => uncut(plot, at, axisTimes(at, mode)) },
        {
          ...axis,
          size: 52,
          space: strip ? 24 : 32,
          ...(strip && { splits: (/** @type {any} */ plot) => [plot.series[1].max ?? 0] }),
          incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7, 1e8, 1e9],
          grid: { stroke: colour("--line"), width: 1 },
        },
      ],
      series: [
        {},
        ...lines.map(({ label, stroke, fill }) => ({
          label,
          paths: stepped,
          stroke: colour(stroke),
          fill: fill && colour(fill),
          width: fill ? 1 : 1.5,
          points: { show: false },
        })),
      ],
    },
    data,
    element,
  );
}
