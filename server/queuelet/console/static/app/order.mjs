/** The order of many things, mended where it has changed instead of made again. */

/**
 * @typedef {string | number} Key
 */

/**
 * Things in the order of their keys. Those with the same key are in the order of their labels.
 * @template {{label: string}} T
 */
export class Order {
  /** @type {Map<T, Key>} the key that each had when it got its place */
  #keys = new Map();
  /** @type {T[]} */
  #list = [];

  /**
   * @param {(each: T) => Key} key
   * @param {boolean} [isDescending] whether the largest key comes first
   */
  constructor(key, isDescending = false) {
    this.key = key;
    this.sign = isDescending ? -1 : 1;
  }

  /**
   * Return the things in order. It is the same list as before if nothing has moved.
   * @param {T[]} all
   */
  of(all) {
    const keys = this.#keys;
    /** @type {Set<T>} */
    const moved = new Set();
    for (const each of all) {
      const key = this.key(each);
      if (keys.get(each) === key) continue;
      keys.set(each, key);
      moved.add(each);
    }
    const hasLess = keys.size > all.length;
    if (hasLess) {
      const present = new Set(all);
      for (const each of keys.keys()) if (!present.has(each)) keys.delete(each);
    }
    if (moved.size || hasLess) {
      const still = this.#list.filter((each) => keys.has(each) && !moved.has(each));
      this.#list = this.#merged(still, [...moved].sort((a, b) => this.#compare(a, b)));
    }
    return this.#list;
  }

  /**
   * @param {T} a
   * @param {T} b
   */
  #compare(a, b) {
    const first = /** @type {Key} */ (this.#keys.get(a));
    const second = /** @type {Key} */ (this.#keys.get(b));
    if (first !== second) return first < second ? -this.sign : this.sign;
    return a.label < b.label ? -1 : a.label > b.label ? 1 : 0;
  }

  /**
   * Two lists in order as one.
   * @param {T[]} some
   * @param {T[]} others
   */
  #merged(some, others) {
    const list = [];
    let i = 0;
    for (const each of others) {
      while (i < some.length && this.#compare(some[i], each) <= 0) list.push(some[i++]);
      list.push(each);
    }
    while (i < some.length) list.push(some[i++]);
    return list;
  }
}
