/** Reading again what the page shows of something that changes elsewhere. */

const GATHER = 1_000; // milliseconds: at most one reading in this time of what is told to have changed
const REFUSED = 10_000; // at least so long after a refusal

const CLOCK = {
  now: () => performance.now(),
  setTimeout: (then, ms) => setTimeout(then, ms),
  clearTimeout: (timer) => clearTimeout(timer),
};

/**
 * One reading at a time: what changes meanwhile is read once more after it, and what changes often, now and
 * then. What is refused for now is read again later, everything else that fails when somebody asks again.
 */
export class Reading {
  #read;
  #show;
  #clock;
  #running = null; // settles when what was asked for so far is shown, or cannot be
  #isStale = false;
  #timer = null;
  #due = Infinity; // when the timer fires
  #notBefore = 0; // when the next reading may begin by itself

  /** `read()` gets it, `show(read)` shows it; the latter only of the newest reading. */
  constructor(read, show, clock = CLOCK) {
    this.#read = read;
    this.#show = show;
    this.#clock = clock;
  }

  /** Read at once; resolves when that is shown, or has failed. */
  now() {
    this.#clock.clearTimeout(this.#timer);
    this.#due = Infinity;
    this.#isStale = true;
    this.#running ??= this.#run();
    return this.#running;
  }

  /** Read within so many milliseconds: at once if it was not read just before, nor refused. */
  within(ms = 0) {
    const now = this.#clock.now();
    const due = Math.max(now + ms, this.#notBefore);
    if (due >= this.#due) return;
    this.#clock.clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = this.#clock.setTimeout(() => void this.now(), due - now);
  }

  async #run() {
    try {
      while (this.#isStale) await this.#readOnce();
    } finally {
      this.#running = null;
    }
  }

  async #readOnce() {
    this.#isStale = false;
    this.#pause(GATHER);
    let found;
    try {
      found = await this.#read();
    } catch (error) {
      if (!error.retryable) return; // the connection's own notice says why; `ready` reads again
      this.#isStale = false;
      this.#pause(Math.max(error.retryAfter, REFUSED));
      this.within();
      return;
    }
    if (!this.#isStale) this.#show(found);
  }

  #pause(ms) {
    this.#notBefore = this.#clock.now() + ms;
  }
}
