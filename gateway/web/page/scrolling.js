/** Where one is in a long conversation. */

const NEAR = 48; // pixels from the end that still count as the end

/** Call `then` each time that an element comes into view in a box, or nearly. */
export function whenInView(element, box, then) {
  const seen = (entries) => {
    if (entries.at(-1).isIntersecting) then();
  };
  new IntersectionObserver(seen, { root: box, rootMargin: "200px 0px 0px" }).observe(element);
}

/** Keeps the end of a growing box in view, until somebody scrolls up to read. */
export class EndFollower {
  #box;
  #isFollowing = true;

  /** `toEnd` is shown while the end is out of view, and leads there. */
  constructor(box, content, toEnd) {
    this.#box = box;
    let top = 0;
    box.addEventListener("scroll", () => {
      const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
      if (isAtEnd) this.#isFollowing = true;
      else if (box.scrollTop < top) this.#isFollowing = false;
      top = box.scrollTop;
      toEnd.hidden = isAtEnd || this.#isFollowing;
    }, { passive: true });
    toEnd.addEventListener("click", () => this.follow());
    const growth = new ResizeObserver(() => {
      if (this.#isFollowing) this.follow();
    });
    growth.observe(content);
    growth.observe(box);
  }

  /** Go to the end and stay there. */
  follow() {
    this.#isFollowing = true;
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  /** Change what is above without moving what is in view. */
  keeping(change) {
    const fromEnd = this.#box.scrollHeight - this.#box.scrollTop;
    change();
    this.#box.scrollTop = this.#box.scrollHeight - fromEnd;
  }
}
