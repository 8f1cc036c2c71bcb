// Keeps the end of a growing text in view until the person scrolls up.
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** Pixels from the end that still count as being there. */
const NEAR = 24;

type AutoScroll = {
  atEnd: boolean;
  /** Goes to the end and stays there. */
  toEnd: () => void;
};

/** `begun`: there is something to follow; before that the view stays at its top. */
export function useAutoScroll(
  scroller: RefObject<HTMLElement | null>,
  content: RefObject<HTMLElement | null>,
  begun: boolean,
): AutoScroll {
  const [atEnd, setAtEnd] = useState(true);
  const follows = useRef(true);
  const set = useCallback((value: boolean) => {
    follows.current = value;
    setAtEnd(value);
  }, []);

  const toEnd = useCallback(() => {
    const box = scroller.current;
    if (box) box.scrollTop = box.scrollHeight;
    set(true);
  }, [scroller, set]);

  useLayoutEffect(() => {
    const box = scroller.current;
    if (box && begun) box.scrollTop = box.scrollHeight;
  }, [scroller, begun]);

  useEffect(() => {
    const box = scroller.current;
    const inner = content.current;
    if (!box || !inner || !begun) return;
    let top = box.scrollTop;
    const onScroll = (): void => {
      const left = box.scrollHeight - box.scrollTop - box.clientHeight;
      // Only a move of the person's goes up while the text is longer than the view; growth alone moves nothing.
      if (box.scrollTop < top - 1 && left > 4) set(false);
      else if (left <= NEAR) set(true);
      top = box.scrollTop;
    };
    const observer = new ResizeObserver(() => {
      if (follows.current) box.scrollTop = box.scrollHeight;
    });
    box.addEventListener("scroll", onScroll, { passive: true });
    observer.observe(inner);
    observer.observe(box);
    return () => {
      box.removeEventListener("scroll", onScroll);
      observer.disconnect();
    };
  }, [scroller, content, begun, set]);

  return { atEnd, toEnd };
}
