/** Other tabs of this browser: that a question was accepted they are told without the server. */

const channel = new BroadcastChannel("makoto.sessions");

/** Tell them that a question was accepted in a session. */
export const tellNeighbours = (sessionId) => channel.postMessage({ sessionId });

/** `listener(sessionId)` is called when another tab says so. */
export function onNeighbours(listener) {
  channel.addEventListener("message", ({ data }) => listener(data.sessionId));
}
