// The connection to the studio's server: commands out, states in.

export class Live {
  /** `received` gets each state; `lost` is called when the server is gone. */
  constructor(address, received, lost) {
    this.socket = new WebSocket(address);
    this.waiting = [];
    this.socket.addEventListener("message", (event) => received(JSON.parse(event.data)));
    this.socket.addEventListener("close", lost);
    this.socket.addEventListener("open", () => {
      for (const command of this.waiting) this.send(command);
      this.waiting = [];
    });
  }

  send(command) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(command));
    else this.waiting.push(command);
  }
}
