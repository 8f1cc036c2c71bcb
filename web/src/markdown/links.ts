// Which addresses in an answer may be followed. An answer is data: it may have been written by someone who wants a click.

const FOLLOWED = new Set(["http:", "https:", "mailto:", "tel:"]);

/** The address to link to; null for scripts, data, other schemes and addresses without one, which stay plain text. */
export function safeHref(address: string): string | null {
  try {
    const url = new URL(address);
    return FOLLOWED.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** The host of an http(s) address, to show where a picture would come from. */
export function hostOf(href: string): string {
  try {
    return new URL(href).host;
  } catch {
    return "";
  }
}
