/** Other tabs of this browser: what one of them is told, the others need not wait for. */

const channel = new BroadcastChannel("makoto.sessions");

/** Tell them that a question was accepted in a session, or that it was deleted. */
export const tellNeighbours = (sessionId) => channel.postMessage({ sessionId });

/** `listener(sessionId)` is called when another tab says so. */
export function onNeighbours(listener) {
  channel.addEventListener("message", ({ data }) => listener(data.sessionId));
}
