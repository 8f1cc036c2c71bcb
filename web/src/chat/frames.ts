// Gathers what a stream brings and hands it on at most once per frame, and less often when drawing is slow.

/** Takes items one by one or many at once; `flush` gets them in order, together. */
export class FrameBatch<T> {
  private items: T[] = [];
  private scheduled: (() => void) | null = null;
  /** No hand-over before this instant: drawing may take half of the time, typing and scrolling get the rest. */
  private notBefore = 0;
  private readonly flushItems: (items: T[]) => void;

  constructor(flush: (items: T[]) => void) {
    this.flushItems = flush;
  }

  add(items: T[]): void {
    this.items.push(...items);
    if (this.scheduled === null) this.schedule();
  }

  /** Hands over what waits, now. */
  flush(): void {
    this.scheduled?.();
    this.scheduled = null;
    const { items } = this;
    if (items.length === 0) return;
    this.items = [];
    const start = performance.now();
    this.flushItems(items);
    // Runs after React has drawn what the hand-over changed.
    setTimeout(() => {
      const end = performance.now();
      this.notBefore = end + Math.min(500, end - start - 4);
    });
  }

  private schedule(): void {
    const wait = this.notBefore - performance.now();
    // A hidden tab draws no frames, but its answer must be whole when it is shown.
    if (document.hidden || wait > 0) {
      const timer = setTimeout(() => this.flush(), document.hidden ? 250 : wait);
      this.scheduled = () => clearTimeout(timer);
    } else {
      const frame = requestAnimationFrame(() => this.flush());
      // A tab hidden meanwhile would never get its frame.
      const timer = setTimeout(() => this.flush(), 300);
      this.scheduled = () => {
        cancelAnimationFrame(frame);
        clearTimeout(timer);
      };
    }
  }
}
