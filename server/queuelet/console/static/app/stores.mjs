/** What users read about stores. */
import { stores } from "./board.mjs";

const SURVIVES = { MEMORY: "nothing", DISK: "crashes", REPLICATED: "a lost machine" };
const SENTENCES = {
  MEMORY: "messages are lost when the server stops",
  DISK: "messages survive crashes",
  REPLICATED: "messages survive the loss of a machine",
};

/** @param {string} store */
export const storeName = (store) => store.slice(0, 1) + store.slice(1).toLowerCase();

/**
 * What acknowledged changes in a store survive at present. A store that was not opened yet does not know.
 * @param {string} store
 * @returns {"" | "MEMORY" | "DISK" | "REPLICATED"}
 */
const durabilityOf = (store) => {
  const known = stores.value.find((each) => each.store === store);
  return known?.epoch ? known.durability : "";
};

/** @param {string} store */
export const survives = (store) => {
  const durability = durabilityOf(store);
  return durability ? SURVIVES[durability] : "—";
};

/**
 * The name of a store, and in a word whether it is replicated, if that may change.
 * @param {string} store
 */
export const storeState = (store) => {
  const durability = store === "POSTGRES" && durabilityOf(store);
  return storeName(store) + (durability ? (durability === "REPLICATED" ? ", replicated" : ", not replicated") : "");
};

/**
 * The name of a store, and in a sentence what its messages survive.
 * @param {string} store
 */
export const storeSentence = (store) => {
  const durability = durabilityOf(store);
  return storeName(store) + (durability ? `: ${SENTENCES[durability]}` : "");
};
