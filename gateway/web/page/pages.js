/** Lists that are read page by page, newest first. */

/**
 * Put a first page, read anew, before the older pages that are shown already. `shown` and the result have
 * `items` and `next`; `key` is the property that holds an item's id.
 */
export function renewed(shown, first, key) {
  const last = first.items.at(-1)?.[key];
  const at = first.next ? shown.items.findIndex((item) => item[key] === last) : -1;
  if (at < 0) return first; // there is nothing older, or too much is new
  const fresh = new Set(first.items.map((item) => item[key]));
  const older = shown.items.slice(at + 1).filter((item) => !fresh.has(item[key]));
  return older.length ? { items: [...first.items, ...older], next: shown.next } : first;
}
