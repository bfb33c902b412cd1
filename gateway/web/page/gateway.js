/** Which gateway the page talks to: the one it came from, unless it was told of another in its head. */

const named = (name) => document.querySelector(`meta[name="makoto-${name}"]`)?.content;

/** Returns the options of the client that say where, and how its token gets there. */
export function gatewayOfPage() {
  const url = named("gateway");
  const tickets = named("tickets");
  if (!url) return { url: new URL("/v1/ws", location.href.replace("http", "ws")).href };
  if (!tickets) return { url };
  return { url, handshake: "ticket", ticketUrl: new URL(tickets, location.href).href };
}

export const isElsewhere = () => named("gateway") !== undefined;
