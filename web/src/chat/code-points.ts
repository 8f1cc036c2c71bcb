// Offsets on the wire count Unicode code points; strings here count UTF-16 units.

/** How many code points a text has. A lone surrogate counts as one. */
export function codePoints(text: string): number {
  let count = 0;
  for (let unit = 0; unit < text.length; unit += width(text, unit)) count++;
  return count;
}

/** The first `length` code points of a text. */
export function cutAt(text: string, length: number): string {
  let unit = 0;
  for (let point = 0; point < length && unit < text.length; point++) unit += width(text, unit);
  return text.slice(0, unit);
}

function width(text: string, unit: number): 1 | 2 {
  return (text.codePointAt(unit) ?? 0) > 0xffff ? 2 : 1;
}
