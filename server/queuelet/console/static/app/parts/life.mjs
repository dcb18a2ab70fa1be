/** The life of a message as a diagram: where it is, and where it has been. */
import { html } from "../html.mjs";

const BOXES = [
  { state: "added", label: "Added", x: 2, y: 10 },
  { state: "delayed", label: "Delayed", x: 92, y: 10 },
  { state: "ready", label: "Ready", x: 182, y: 10 },
  { state: "leased", label: "Leased", x: 272, y: 10 },
  { state: "done", label: "Done", x: 362, y: 10 },
  { state: "dead", label: "Dead", x: 272, y: 70 },
];
const ARROWS = [
  "M66 24H92", "M156 24H182", "M246 19H272", "M272 29H246", "M336 24H362", "M304 38V70",
];
const TIPS = ["M92 24l-6 -3.5v7z", "M182 24l-6 -3.5v7z", "M272 19l-6 -3.5v7z", "M246 29l6 -3.5v7z", "M362 24l-6 -3.5v7z", "M304 70l-3.5 -6h7z"];

/**
 * @param {{state: string, wasDelayed: boolean, deliveries: number}} props
 */
export function Life({ state, wasDelayed, deliveries }) {
  const was = new Set(["added", ...(wasDelayed ? ["delayed"] : []), "ready", ...(deliveries ? ["leased"] : [])]);
  const text = `Life of the message: it is ${state}${deliveries ? `, after ${deliveries} ${deliveries === 1 ? "delivery" : "deliveries"}` : ""}`;
  return html`<svg class="life" viewBox="0 0 428 102" role="img" aria-label=${text}>
    ${ARROWS.map((d) => html`<path d=${d} />`)}${TIPS.map((d) => html`<path class="tip" d=${d} />`)}
    ${BOXES.map(
      ({ state: box, label, x, y }) => html`<g class=${box === state ? `at ${box}` : was.has(box) ? "was" : ""}>
        <rect x=${x} y=${y} width="64" height="28" rx="7" /><text x=${x + 32} y=${y + 18} text-anchor="middle">${label}</text></g>`,
    )}
  </svg>`;
}
