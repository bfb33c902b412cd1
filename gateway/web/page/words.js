/** Languages and dates. */

const KANA = /[\u3040-\u30ff]/;

/** A `lang`: Han characters look different in Japanese and Chinese, and are read aloud differently. */
export const languageOf = (text) => (KANA.test(text) ? "ja" : "");

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const DATE = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

/** Say when it was, for Unix milliseconds: the time today, else the day. */
export function whenWas(ms) {
  if (daysAgo(ms) === 0) return TIME.format(ms);
  const isThisYear = new Date(ms).getFullYear() === new Date().getFullYear();
  return (isThisYear ? DAY : DATE).format(ms);
}

/** How many midnights ago it was. */
export function daysAgo(ms) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  return Math.max(0, Math.ceil((midnight - ms) / 86_400_000));
}
