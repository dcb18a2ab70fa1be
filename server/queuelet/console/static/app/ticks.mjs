/** When the page shows what has changed: at most once in a frame of the screen. */
import { batch, signal } from "./html.mjs";

/** Milliseconds after which changes are shown even without a frame, which tabs in the background do not have. */
const AT_LAST = 100;

/** Grows when numbers have changed. */
export const tick = signal(0);
/** Grows, before `tick`, when queues come, go or change their definition. */
export const shape = signal(0);

/** What has changed and is not shown yet. */
const due = { numbers: false, definitions: false };

/**
 * Show what has changed with the next frame. Several changes before that cost no more than one.
 * @param {boolean} hasDefinitions whether definitions have changed, too
 */
export function draw(hasDefinitions) {
  if (!due.numbers) {
    requestAnimationFrame(drawn);
    setTimeout(drawn, AT_LAST);
  }
  due.numbers = true;
  due.definitions ||= hasDefinitions;
}

/** Show everything at once. */
export function drawNow() {
  due.numbers = due.definitions = true;
  drawn();
}

function drawn() {
  if (!due.numbers) return;
  const { definitions } = due;
  due.numbers = due.definitions = false;
  batch(() => {
    if (definitions) shape.value += 1;
    tick.value += 1;
  });
}
